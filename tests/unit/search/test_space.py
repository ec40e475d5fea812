"""The space of a search: read, checked against the recipe, and put into it, before anything heavy loads."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from rayscan.config import BYOLConfig, PmiLossConfig, Recipe
from rayscan.errors import ConfigError
from rayscan.recipes import by_name
from rayscan.search.axis import Axis, parse_axis
from rayscan.search.plan import Plan
from rayscan.search.space import make_space
from rayscan.sections import get, paths, with_values

PLAIN = by_name("digits")
DIGITS = replace(PLAIN, scan=replace(PLAIN.scan, inputs="both", num_neighbors=10, head_num_neighbors=50))
"""A recipe whose heads read more neighbors than fine-tuning."""


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("scan.entropy_weight=1:20:log", Axis("scan.entropy_weight", "float", 1, 20, is_log=True)),
        ("scan.entropy-weight=0.5:2", Axis("scan.entropy_weight", "float", 0.5, 2)),
        ("scan.num_heads=1:50:log", Axis("scan.num_heads", "int", 1, 50, is_log=True)),
        ("scan.num_neighbors=5,10,20", Axis("scan.num_neighbors", "choice", choices=(5, 10, 20))),
        ("scan.head_num_neighbors=none,10", Axis("scan.head_num_neighbors", "choice", choices=(None, 10))),
        ("selflabel.class_balance=true,false",
         Axis("selflabel.class_balance", "choice", choices=(True, False))),
        ("scan.head_optimizer.kind=sgd,adam",
         Axis("scan.head_optimizer.kind", "choice", choices=("sgd", "adam"))),
        ("selflabel.optimizer.learning_rate=1e-5:1e-3:log",
         Axis("selflabel.optimizer.learning_rate", "float", 1e-5, 1e-3, is_log=True)),
    ],
)  # fmt: skip
def test_what_is_written_is_what_is_meant(text: str, axis: Axis) -> None:
    assert parse_axis(text) == axis
    assert parse_axis(str(axis)) == axis


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scan.entropy_wight=1:2", "perhaps you meant scan.entropy_weight"),
        ("scan=1,2", "there is no setting scan"),
        ("scan.entropy_weight", "cannot be read"),
        ("scan.entropy_weight=", "cannot be read"),
        ("=1:2", "cannot be read"),
        ("scan.entropy_weight=3", "at least two different values"),
        ("scan.num_neighbors=5,5", "at least two different values"),
        ("scan.num_neighbors=5,ten", "got:      ten"),
        ("scan.num_neighbors=1.5:9", "expected: int"),
        ("scan.entropy_weight=9:1", "is empty"),
        ("scan.entropy_weight=0:1:log", "has no logarithm"),
        ("scan.entropy_weight=1:inf", "cannot take this value"),
        ("scan.entropy_weight=1:2:exp", "over this range"),
        ("scan.head_optimizer.kind=sgd:adam", "it is not a number"),
        ("scan.head_optimizer.kind=sgd,lion", "sgd or adam"),
        ("selflabel.class_balance=yes,no", "expected: bool"),
        ("selflabel.threshold=0.8:1.2", "threshold is out of range"),
        ("scan.heldout_fraction=0.1,0.7", "heldout_fraction is out of range"),
        ("scan.pmi_temperature=0.1,0.2", "scan.pmi_temperature belongs to scan.loss pmi"),
        ("scan.loss=scan,temi", "scan or pmi"),
        ("num_clusters=5,10", "cannot be searched"),
        ("seed=0,1", "cannot be searched"),
        ("fleet.num_workers=1,2", "changes no cluster"),
        ("embed.batch_size=1,2", "changes no cluster"),
        ("report.thumbnail_px=32,64", "changes no cluster"),
        ("pretext.epochs=10,20", "--from-images"),
        ("scan.views=plain,simclr", "--from-images"),
        ("scan.optimizer.learning_rate=1e-4:1e-3", "--from-images"),
    ],
)
def test_mistakes_are_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_space(DIGITS, [text], from_images=False)
    assert says in str(caught.value)


READ_BY_HEADS = {
    *(f"scan.{name}" for name in (
        "num_neighbors", "head_num_neighbors", "neighbors_per_step", "include_self", "heldout_fraction",
        "num_heads", "head_epochs", "head_batch_size", "loss", "entropy_weight", "marginal", "marginal_decay",
        "pmi_beta", "pmi_temperature", "teacher_decay", "joint_decay", "start", "keep",
    )),
    *(f"selflabel.{name}" for name in (
        "threshold", "threshold_kind", "threshold_floor", "class_balance", "teacher", "ema_decay", "epochs",
        "batch_size", "plateau_epochs", "keep_better", "tolerated_fall",
    )),
    *(f"{optimizer}.{name}" for optimizer in ("scan.head_optimizer", "selflabel.optimizer") for name in (
        "kind", "learning_rate", "weight_decay", "decay_norms", "warmup_epochs", "schedule", "final_fraction",
    )),
}  # fmt: skip
"""What `scan.fit_heads` and `selflabel.fit_head` read of a recipe."""


def test_exactly_the_settings_that_heads_read_are_marked() -> None:
    assert {path for path, leaf in paths(Recipe).items() if leaf.is_read_by_heads} == READ_BY_HEADS


def test_settings_of_the_loss_may_vary() -> None:
    """The temperature of PMI was refused once, though heads start from it."""
    pmi = with_values(DIGITS, {"scan.loss": "pmi"})
    space = make_space(pmi, ["scan.pmi_temperature=0.05:0.5"], from_images=False)
    assert space.recipe({"scan.pmi_temperature": 0.2}).scan.start_temperature == 0.2
    assert [a.path for a in make_space(pmi, [], from_images=False).axes] == [
        "scan.head_num_neighbors",
        "selflabel.threshold",
    ]


def test_variants_may_vary() -> None:
    space = make_space(DIGITS, ["scan.loss=scan,pmi"], from_images=False)
    assert type(space.recipe({"scan.loss": "pmi"}).scan) is PmiLossConfig
    assert space.recipe({"scan.loss": "scan"}) == space.base
    methods = make_space(DIGITS, ["pretext.method=simclr,moco,byol"], from_images=True)
    assert type(methods.recipe({"pretext.method": "byol"}).pretext) is BYOLConfig


def test_whole_trials_may_vary_what_heads_do_not_see() -> None:
    for text in ("pretext.epochs=10,20", "scan.views=plain,digits", "embed.space=backbone,projection"):
        assert make_space(DIGITS, [text], from_images=True).axes == (parse_axis(text),)


def test_a_path_stands_once_and_a_silent_one_not_at_all() -> None:
    with pytest.raises(ConfigError, match="twice"):
        make_space(DIGITS, ["scan.num_heads=1,2", "scan.num_heads=3,4"], from_images=False)
    without = replace(DIGITS, selflabel=replace(DIGITS.selflabel, epochs=0))
    with pytest.raises(ConfigError, match=r"does nothing: the recipe has selflabel\.epochs 0"):
        make_space(without, ["selflabel.threshold=0.5:0.9"], from_images=False)
    assert [a.path for a in make_space(without, [], from_images=False).axes] == [
        "scan.entropy_weight",
        "scan.head_num_neighbors",
    ]


def test_default_space_is_entropy_weight_k_and_threshold() -> None:
    paths = [a.path for a in make_space(by_name("cifar10"), [], from_images=False).axes]
    assert paths == ["scan.entropy_weight", "scan.num_neighbors", "selflabel.threshold"]


def test_the_largest_k_is_mined_and_is_the_k_that_heads_read() -> None:
    space = make_space(DIGITS, ["scan.num_neighbors=5,80"], from_images=False)
    assert (space.base.mine.num_neighbors, DIGITS.mine.num_neighbors) == (80, 50)
    assert DIGITS.scan.head_num_neighbors == 50
    assert space.base.scan.head_num_neighbors is None  # else no trial would see the axis
    assert space.recipe({"scan.num_neighbors": 5}).scan.num_neighbors == 5
    assert make_space(DIGITS, ["scan.num_heads=1,2"], from_images=False).base == DIGITS


def test_values_are_set_together_and_nothing_else_changes() -> None:
    values = {"scan.num_neighbors": 60, "mine.num_neighbors": 60, "scan.head_optimizer.learning_rate": 0.5}
    changed = with_values(DIGITS, values)  # one after the other, K = 60 of 50 mined would be refused
    assert {path: get(changed, path) for path in values} == values
    assert with_values(changed, {path: get(DIGITS, path) for path in values}) == DIGITS


def test_a_space_knows_its_own_values() -> None:
    space = make_space(DIGITS, ["scan.entropy_weight=1:5", "scan.num_heads=1,2"], from_images=False)
    assert space.contains({"scan.entropy_weight": 1.0, "scan.num_heads": 2})
    assert not space.contains({"scan.entropy_weight": 5.1, "scan.num_heads": 2})
    assert not space.contains({"scan.entropy_weight": 2.0, "scan.num_heads": 3})
    assert not space.contains({"scan.entropy_weight": 2.0})


@pytest.mark.parametrize(
    "wrong", [{"trials": 0}, {"finalists": 0}, {"seeds": 0}, {"concurrent": 0}, {"gpus_per_trial": -1.0}]
)
def test_counts_are_checked(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"setting {next(iter(wrong))} is out of range"):
        Plan(**wrong)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["digits", "--space", "scan.entropy_wight=1:2"], "perhaps you meant"),
        (["digits", "--trials", "0"], "setting trials"),
        (["custom"], "num_clusters"),
        (["digit"], "there is no recipe"),
    ],
)
def test_the_command_refuses_before_anything_heavy_loads(arguments: list[str], says: str) -> None:
    code = (
        "import sys; from rayscan.cli import main; status = main(sys.argv[1:]); "
        "print('heavy:', sorted({'torch', 'ray', 'optuna', 'faiss'} & set(sys.modules))); sys.exit(status)"
    )
    asked = ["search", *arguments, "--data", "nothing", "--out", "nowhere"]
    done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert "heavy: []" in done.stdout
