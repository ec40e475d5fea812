"""What the viewer shows and keeps; the browser itself is in tests/browser."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from rayscan.errors import ConfigError
from rayscan.viewer import cached, view
from rayscan.viewer.serving import bound
from tests.unit.exports.pictured import NAMES, PicturedRun, pictured

pytest.importorskip("embedding_atlas")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PicturedRun:
    return pictured(tmp_path_factory.mktemp("run"), num_images=60)


def test_a_missing_package_is_named_with_its_command(
    made: PicturedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "rayscan.viewer.app", raising=False)
    monkeypatch.setitem(sys.modules, "embedding_atlas", None)
    with pytest.raises(ConfigError, match=r"pip install 'rayscan\[view\]'"):
        view(made.out.uri, 0, opens_browser=False, say=lambda _: None)


def test_the_file_is_made_again_for_other_names_alone(made: PicturedRun) -> None:
    first = cached.read_map(made.opened)
    folder = Path(made.out.uri, "view")
    (file,) = folder.iterdir()
    before = file.stat().st_mtime_ns
    assert cached.read_map(made.opened).equals(first)
    assert file.stat().st_mtime_ns == before
    clusters = Path(made.out.uri, "clusters.json")
    clusters.write_text(json.dumps([{**c, "name": f"n{c['cluster']}"} for c in made.opened.clusters]))
    renamed = cached.read_map(made.opened)
    assert set(renamed["name"].to_pylist()) <= {f"n{n}" for n in range(10)}
    assert renamed["x"].equals(first["x"])
    (other,) = folder.iterdir()
    assert other != file


def test_names_stand_at_the_median_of_their_images(made: PicturedRun) -> None:
    from rayscan.viewer.app import _labels

    table = cached.read_map(made.opened)
    labels = _labels(table)
    clusters = table["cluster"].to_numpy()
    for label in labels:
        number = table["cluster"][table["name"].to_pylist().index(label["content"])].as_py()
        own = clusters == number
        assert label["priority"] == own.sum()
        assert label["x"] == pytest.approx(np.median(table["x"].to_numpy()[own]))
        assert label["y"] == pytest.approx(np.median(table["y"].to_numpy()[own]))
    assert len(labels) == len(np.unique(clusters)) <= len(NAMES)


def test_a_port_that_is_taken_is_refused_and_without_one_the_next_is_taken() -> None:
    with bound(0) as listening:
        address, number = listening.getsockname()
        assert address == "127.0.0.1"
        with pytest.raises(ConfigError, match="the port cannot be used"), bound(number):
            pass
    with bound(None) as one, bound(None) as other:
        assert one.getsockname()[1] != other.getsockname()[1]


@pytest.mark.parametrize("number", [-1, 70_000])
def test_a_port_there_cannot_be_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match="pass another --port"), bound(number):
        pass
