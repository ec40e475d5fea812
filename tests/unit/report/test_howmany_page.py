"""`rayscan howmany` on digits as they were embedded and mined; nothing foreign becomes markup in its page."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rayscan.artifacts import Artifact
from rayscan.errors import ArtifactError
from rayscan.howmany import candidate, write_howmany
from rayscan.report.howmany import Candidate, Group, HowManyContent, render
from rayscan.run import record
from rayscan.stages.howmany import whitened
from tests.unit.report.digits_run import DigitsRun

HOSTILE = '<img src=x onerror="alert(1)">&'


def recorded(digits: DigitsRun, stages: tuple[str, ...]) -> str:
    """The run with a record of some stages; its address."""
    done: dict[str, Artifact] = {stage: digits.done[stage] for stage in stages}
    directories = {stage: {"directory": one.place.uri.rpartition("/")[2]} for stage, one in done.items()}
    record(digits.out, digits.recipe, {"data": "x", "eval_data": None, "labels": None}, directories)
    return digits.out.uri


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DigitsRun:
    return DigitsRun(tmp_path_factory.mktemp("digits"), num_images=600)


def test_text_and_page_say_the_same_and_show_pictures_of_the_run(digits: DigitsRun) -> None:
    told = write_howmany(recorded(digits, ("index", "embed", "mine")))
    found = json.loads(digits.out.read("howmany/howmany.json"))
    page = digits.out.read("howmany/index.html").decode()
    assert f"suggested: {found['suggested']} clusters, between {found['low']} and {found['high']}" in told
    assert f'value="{found["suggested"]}"' in page
    for name, number in found["table"]:
        assert re.search(rf"{re.escape(name)} +{number}\n", told)
        assert re.search(rf'{re.escape(name)}</th><td class="number[^"]*">{number}</td>', page)
    best = min(found["curve"], key=lambda point: point[1])[0]
    assert re.search(rf"(?m)^ +{best} .*<- shortest$", told)
    shown = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="image (\d+)"', page)
    assert len(shown) > 3 * found["low"]
    for data, gid in shown[:20]:  # WebP loses a little; another digit differs by much more
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"), np.float64)
        assert np.abs(picture - digits.pixels[int(gid)] * 15.9).mean() < 12


def test_groups_hold_their_sizes_and_most_typical_images(digits: DigitsRun) -> None:
    """Every train image is in a cluster; the pictures of one lie nearest to its mean."""
    gids, space = whitened(digits.recipe, digits.done["embed"], digits.done["mine"])
    shown = candidate(space, gids, 6, 0)
    sizes = [group.size for group in shown.groups]
    assert sum(sizes) == len(gids) == digits.num_train - digits.bad
    assert sizes == sorted(sizes, reverse=True)
    labels = digits.labels[np.array([group.gids for group in shown.groups])]
    same = [np.bincount(row).max() for row in labels]
    assert np.mean(same) > 6, "of eight pictures of a cluster most are one digit"


def test_a_run_without_neighbors_is_refused(digits: DigitsRun) -> None:
    with pytest.raises(ArtifactError, match="no result of stage mine"):
        write_howmany(recorded(digits, ("index", "embed")))


def test_pictures_can_be_left_out(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path, num_images=120)
    run.recipe = replace(run.recipe, report=replace(run.report, images="none"))
    write_howmany(recorded(run, ("index", "embed", "mine")))
    page = run.out.read("howmany/index.html").decode()
    assert "left out on request" in page
    assert "data:image/webp" not in page


def test_nothing_foreign_becomes_markup_and_the_policy_admits_the_style_alone() -> None:
    page = render(
        HowManyContent(
            recipe=HOSTILE,
            num_images=100,
            suggested=3,
            low=2,
            high=4,
            caution=HOSTILE,
            table=[(HOSTILE, 3)],
            curve=[(2, 1.0), (1, 2.0)],
            modularity=[(2, 0.5), (1, 0.0)],
            candidates=[Candidate(3, [Group(5, [1])])],
            pictures={1: HOSTILE},
            notes=[HOSTILE],
        )
    )
    assert HOSTILE not in page
    assert "<script" not in page
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.replace("&#39;", "'")
    assert '<circle class="dot chosen"' in page
