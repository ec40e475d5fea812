"""Mistakes in what a run is given are told before anything is done, not when hours are over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rayscan import pipeline
from rayscan.context import Sources
from rayscan.errors import ConfigError, DataError
from rayscan.recipes import by_name
from rayscan.stages import index, labels
from rayscan.storage import Place
from tests.unit.data.conftest import context_for as context_for
from tests.unit.data.conftest import encoded, picture, write_files

RECIPE = replace(by_name("custom"), num_clusters=2)


@pytest.fixture
def photos(tmp_path):
    write_files(tmp_path / "in", {f"{n}.png": encoded(picture(n)) for n in range(4)})
    return str(tmp_path / "in")


def test_a_labels_file_that_cannot_be_used_ends_a_run_before_it_begins(tmp_path, photos):
    (tmp_path / "wrong.csv").write_text("file,kind\na,b\n")
    for name, message in (("nope.csv", "cannot be read"), ("wrong.csv", "has no labels")):
        out = tmp_path / f"out-{name}"
        with pytest.raises(DataError, match=message):
            pipeline.run(RECIPE, Sources(photos, labels=str(tmp_path / name)), Place(str(out)))
        assert not out.exists()


def test_a_prior_that_does_not_fit_ends_a_run_before_it_begins(tmp_path, photos):
    (tmp_path / "three.txt").write_text("1\n1\n1\n")
    for name, message in (("nope.txt", "cannot be read"), ("three.txt", "does not fit")):
        scan = replace(RECIPE.scan, prior=str(tmp_path / name))
        with pytest.raises(ConfigError, match=message):
            pipeline.run(
                replace(RECIPE, method="scan", scan=scan), Sources(photos), Place(str(tmp_path / "o"))
            )
    assert not (tmp_path / "o").exists()


def test_labels_of_other_pictures_are_told_once_the_images_are_known(tmp_path, photos, context_for):
    context = context_for(photos)
    made = index.run(RECIPE, {}, index.plan(RECIPE, {}, context.sources), context)
    (tmp_path / "labels.csv").write_text("source,label\n0.png,cat\n")
    labels.require_images(made, replace(context.sources, labels=str(tmp_path / "labels.csv")))
    (tmp_path / "labels.csv").write_text("source,label\nother.png,cat\n")
    with pytest.raises(DataError, match="fits an image"):
        labels.require_images(made, replace(context.sources, labels=str(tmp_path / "labels.csv")))
