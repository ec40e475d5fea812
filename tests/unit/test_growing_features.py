"""Features of a set that grew: those of pictures that stayed are taken over, to the bit."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np

from rayscan.artifacts import find
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.recipes import by_name
from rayscan.run import record
from rayscan.stages import embed, index, pretext
from rayscan.storage import Place
from rayscan.vectors.parts import EmbeddingRows
from tests.unit.data.conftest import Serial, encoded, picture, write_files

RECIPE = by_name("custom")
RECIPE = replace(RECIPE, embed=replace(RECIPE.embed, size_px=32))


def test_features_of_what_stayed_are_taken_over_bit_by_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "PRETRAINED_ROWS", 4)
    asked, original = [], embed.features
    monkeypatch.setattr(
        embed, "features", lambda net, fetch, g, **k: asked.extend(g.tolist()) or original(net, fetch, g, **k)
    )

    def features(out):
        sources = Sources(str(tmp_path / "in"))
        context = Context(Place(str(tmp_path / out)), sources, Serial(), Progress(io.StringIO()))
        done = {}
        for stage in (index, pretext, embed):
            step = stage.plan(RECIPE, done, context.sources)
            found = find(context.out.child(step.directory), step)
            done[stage.NAME] = found or stage.run(RECIPE, done, step, context)
        told = {"index": {"directory": done["index"].place.uri.rpartition("/")[2]}}
        record(context.out, RECIPE, vars(context.sources), told)
        keys = done["index"].read_table("images.parquet")["key"].to_pylist()
        x = EmbeddingRows(done["embed"])
        return {keys[g]: row for g, row in zip(x.gids, x.read(0, len(x.gids)), strict=True)}, done["embed"]

    names = [f"m{n}.png" for n in range(7)]
    write_files(tmp_path / "in", {name: encoded(picture(n)) for n, name in enumerate(names)})
    features("out")
    assert sorted(asked) == list(range(7))
    asked.clear()
    write_files(tmp_path / "in", {name: encoded(picture(ord(name[0]))) for name in ("a.png", "q.png")})
    (tmp_path / "in" / "m3.png").unlink()
    (tmp_path / "in" / "m5.png").write_bytes(encoded(picture(1234)))
    grown, artifact = features("out")
    assert sorted(asked) == [5, 7, 8] and artifact.facts["taken_over"] == 5
    fresh, made_new = features("fresh")
    assert "taken_over" not in made_new.facts and grown.keys() == fresh.keys()
    for key, row in fresh.items():
        np.testing.assert_array_equal(grown[key], row, err_msg=key)
