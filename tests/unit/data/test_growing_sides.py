"""Progressive resizing: which side the views have in which epoch, and that they are views of that side."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rayscan.config import SimCLRConfig
from rayscan.costs import cost_of
from rayscan.data.loader import ViewLoader
from rayscan.data.table import ImageTable
from rayscan.errors import ConfigError
from rayscan.recipes import by_name
from rayscan.stages import index
from rayscan.training.sources import ImageSource
from tests.unit.data.conftest import encoded, picture, write_files

GROWING = SimCLRConfig(epochs=8, first_px=16)


def test_by_hand() -> None:
    """16 px and e / 6 of the other 16, in whole steps of 4: 2.7 and 5.3 and 8 and 10.7 and 13.3 of them."""
    assert [GROWING.side_at(epoch, 32) for epoch in range(8)] == [16, 16, 20, 24, 24, 28, 32, 32]
    whole = 8 * 32**2
    assert GROWING.pixel_share(32) == (2 * 16**2 + 20**2 + 2 * 24**2 + 28**2 + 2 * 32**2) / whole
    plain = replace(GROWING, first_px=None)
    assert {plain.side_at(epoch, 32) for epoch in range(8)} == {32} and plain.pixel_share(32) == 1
    soon = replace(GROWING, growing_fraction=0.25)
    assert [soon.side_at(epoch, 32) for epoch in range(8)] == [16, 24, 32, 32, 32, 32, 32, 32]
    until_the_end = replace(GROWING, growing_fraction=1.0)
    assert [until_the_end.side_at(epoch, 32) for epoch in range(8)] == [16, 16, 20, 20, 24, 24, 28, 28]


def test_a_plan_counts_pixels_and_a_side_beyond_the_images_is_refused() -> None:
    recipe = by_name("cifar10")
    growing = replace(recipe, pretext=replace(recipe.pretext, epochs=8, first_px=16))
    cost = cost_of("pretext", growing, 100, 120, None)
    assert cost is not None
    assert cost.work == 100 * 8 * GROWING.pixel_share(32)
    with pytest.raises(ConfigError, match=r"pretext\.first_px(?s:.)*up to images\.size_px = 32"):
        replace(recipe, pretext=replace(recipe.pretext, first_px=36))


@pytest.mark.parametrize("canvas_px", [32, None])
def test_views_are_those_of_a_loader_of_that_side(
    canvas_px: int | None, tmp_path: Path, context_for: Any
) -> None:
    write_files(tmp_path / "in", {f"{n}.png": encoded(picture(n, 40, 52)) for n in range(6)})
    recipe, context = by_name("cifar10"), context_for(str(tmp_path / "in"))
    artifact = index.run(recipe, {}, index.plan(recipe, {}, context.sources), context)
    table, images = ImageTable.from_artifact(artifact), replace(recipe.images, canvas_px=canvas_px)
    source = ImageSource(ViewLoader(table, images, seed=3), table.gids("train"), 3, "cpu")
    source.side_at = partial(GROWING.side_at, last_px=32)
    for epoch, side in ((0, 16), (3, 24), (7, 32)):
        alone = ViewLoader(table, replace(images, size_px=side), seed=3)
        views = source.views(source.gids, "simclr", epoch, (0, 1))
        assert views.shape == (2, 6, 3, side, side)
        assert torch.equal(views, alone.views(source.gids, "simclr", epoch))
    assert source.plain(source.gids).shape == (6, 3, 32, 32)
