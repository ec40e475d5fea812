"""The command line: one table of commands, its usage, its exit statuses, and mistakes refused at once."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest

from rayscan import cli
from rayscan.cli.arguments import NO_READING, Command, absolute, parse
from rayscan.config import Recipe
from rayscan.errors import ConfigError, DataError
from rayscan.recipes import RECIPES, by_name
from rayscan.version import __version__

LISTED = [name for name, command in cli.COMMANDS.items() if command.prog is None]
HEAVY = "sorted({'torch', 'ray', 'optuna', 'faiss'} & set(sys.modules))"


def failing(error: BaseException) -> Command:
    """A command that fails."""

    def function(*, out: str) -> None:
        """Fail.

        Args:
            out: Anything.
        """
        raise error

    return Command(function)


def test_the_usage_has_a_line_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == LISTED
    for name, line in zip(LISTED, lines[2:], strict=True):
        words = (inspect.getdoc(cli.COMMANDS[name].function) or "").split("\n")[0].rstrip(".")
        assert line.endswith(f"  {words}")
        assert len(line) <= 110
    assert any(line.startswith("  run RECIPE  ") for line in lines)
    assert any(line.startswith("  experiment NAME [RECIPE]  ") for line in lines)
    assert any(line.startswith("  consensus RUN RUN ...  ") for line in lines)
    assert any(line.startswith("  doctor [DATA]  ") for line in lines)


def test_no_command_is_a_mistake_and_version_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert cli.main(["--version"]) == 0
    assert f"rayscan {__version__}\n" in capsys.readouterr().out
    assert cli.main(["evaluat"]) == 2
    assert "perhaps you meant evaluate" in capsys.readouterr().err


@pytest.mark.parametrize("name", LISTED)
def test_every_command_has_help_on_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that need a word first list what it may be; with it they list the options."""
    words = {"run": ["custom"], "search": ["custom"], "experiment": ["methods", "custom"]}.get(name, [])
    if words:
        assert cli.main([name, "--help"]) == 0
        assert f"  {words[0]} " in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main([name, *words, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    function = cli.COMMANDS[name].function
    document = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters.values():
        assert f"    {parameter.name}: " in document, "an option without help"
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "plan":
            names = vars(NO_READING) if parameter.name == "reading" else (parameter.name,)
            assert all(f"--{option.replace('_', '-')}" in text for option in names)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ConfigError("no such value"), 2, "rayscan demo: no such value"),
        (DataError("a shard is gone"), 1, "resume with:\n  rayscan demo --out 'a b'\n"),
        (KeyboardInterrupt(), 130, "resume with:\n  rayscan demo --out 'a b'\n"),
    ],
)
def test_exit_statuses_and_the_line_that_resumes(
    error: BaseException, status: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "demo", failing(error))
    assert cli.main(["demo", "--out", "a b"]) == status
    said = capsys.readouterr().err
    assert told in said
    assert ("resume" in said) == (status != 2)


def test_the_job_of_imagenet_resumes_as_it_was_called(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from rayscan import full_imagenet

    command = Command(failing(DataError("gone")).function, prog="python -m rayscan.full_imagenet")
    monkeypatch.setitem(cli.COMMANDS, "full_imagenet", command)
    assert full_imagenet.main(["--out", "o"]) == 1
    assert "resume with:\n  python -m rayscan.full_imagenet --out o\n" in capsys.readouterr().err


def recorded(calls: list[tuple[Recipe, str]]) -> Callable[..., None]:
    """A command that notes what it was called with."""
    from rayscan.cli.arguments import Settings

    def function(recipe, *, out):
        """Note.

        Args:
            recipe: Which.
            out: Where.
        """
        calls.append((recipe, out))

    function.__annotations__ = {"recipe": Settings, "out": str}
    return function


def test_the_recipe_is_a_word_a_default_or_fixed() -> None:
    calls: list[tuple[Recipe, str]] = []
    function = recorded(calls)
    Command(function, recipe_word=0)("p", ["cifar10", "--out", "a"])
    Command(function, recipe_word=0, recipe="custom")("p", ["--out", "b"])
    Command(function, recipe="digits")("p", ["--scan.num-heads", "7", "--out", "c"])
    assert [(recipe.name, out) for recipe, out in calls] == [
        ("cifar10", "a"),
        ("custom", "b"),
        ("digits", "c"),
    ]
    assert calls[2][0].scan.num_heads == 7
    assert calls[0][0] == by_name("cifar10")
    with pytest.raises(ConfigError, match="recipe comes first"):
        Command(function, recipe_word=0)("p", ["--out", "a"])
    with pytest.raises(ConfigError, match="no such recipe file"):
        Command(function, recipe_word=0)("p", ["nowhere/recipe.json", "--out", "a"])


def test_a_saved_recipe_is_a_recipe(tmp_path) -> None:
    from rayscan.run import recipe_to_json

    file = tmp_path / "recipe.json"
    file.write_bytes(recipe_to_json(by_name("stl10")))
    calls: list[tuple[Recipe, str]] = []
    Command(recorded(calls), recipe_word=0)("p", [str(file), "--out", "a"])
    assert calls[0][0] == by_name("stl10")


@pytest.mark.parametrize("name", RECIPES)
def test_no_option_leaves_the_recipe_as_it_is(name: str) -> None:
    calls: list[tuple[Recipe, str]] = []
    parse(recorded(calls), ["--out", "x"], "p", by_name(name))
    assert calls == [(by_name(name), "x")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "cifar10", "--scan.num-heads", "zero"], "num-heads"),
        (["run", "cifar10", "--scan.num-heeds", "3"], "num-heads"),
        (["run", "cifar10", "--scan.num-heads", "0"], "scan.num_heads"),
        (["run", "cifra10"], "perhaps you meant cifar10"),
        (["run", "custom", "--method", "scan"], "rayscan howmany RUN"),
        (["run", "cifar10", "--eval-data", "s3://me:secret@bucket/x"], "carries credentials"),
        (["search", "digits", "--trials", "0"], "setting trials"),
        (["experiment", "scan-fig9", "cifar10"], "perhaps you meant scan-fig"),
        (["experiment", "scan-fig7", "cifar10", "--seeds", "0"], "setting seeds"),
    ],
)
def test_static_mistakes_are_refused_before_torch_and_ray_load(arguments: list[str], told: str) -> None:
    code = (
        "import sys\nfrom rayscan.cli import main\ntry:\n    status = main(sys.argv[1:])\n"
        f"except SystemExit as ended:\n    status = ended.code\nprint('heavy:', {HEAVY}); sys.exit(status)"
    )
    given = [*arguments, "--data", "nothing", "--out", "nowhere"]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "heavy: []" in done.stdout


@pytest.mark.parametrize("module", ["rayscan.exports", "rayscan.viewer.cached", "rayscan.edits.applying"])
def test_what_writes_tables_loads_neither_torch_nor_ray(module: str) -> None:
    code = f"import sys, {module}; print('heavy:', {HEAVY})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout


def test_stages_load_no_ray_and_no_library_that_few_of_them_need() -> None:
    """Every command that looks at a run imports all stages: seconds of its time, and of every worker's."""
    heavy = "sorted({'ray', 'sklearn', 'scipy.stats', 'pandas', 'timm', 'optuna'} & set(sys.modules))"
    code = f"import sys, rayscan.pipeline; print('heavy:', {heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout


def test_local_patterns_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("a/*.tar,/b") == f"{tmp_path}/a/*.tar,/b"
    assert absolute("s3://x/*.tar") == "s3://x/*.tar"
    assert absolute(None) is None
