"""A run's record: what people read lies where they look for it, and their edits stay."""

from __future__ import annotations

import json

import pytest

import rayscan
from rayscan.artifacts import Draft, Step, digest, load
from rayscan.cluster_names import edited_names, inherit_names
from rayscan.errors import ArtifactError, ConfigError
from rayscan.recipes import RECIPES, by_name
from rayscan.run import recipe_from_json, recipe_to_json, record
from rayscan.sections import semantic
from rayscan.storage import Place


def assigned(place: Place, size: int) -> dict[str, object]:
    """A finished assign stage whose only cluster has `size` images."""
    draft = Draft(place, Step("assign", 1, {"size": size}))
    files = {
        "assignments.parquet": draft.write("assignments.parquet", b"rows"),
        "clusters.json": draft.write_json(
            "clusters.json", [{"cluster": 0, "name": "cluster 0", "size": size}]
        ),
    }
    draft.commit(files)
    return {"directory": draft.step.directory, "seconds": 1.0, "reused": False}


def test_edited_names_stay_until_the_clusters_change(place: Place) -> None:
    recipe, sources = by_name("digits"), {"data": "x", "eval_data": None, "labels": None}
    index = {"directory": "index-0", "seconds": 0.1, "reused": True}
    first = assigned(place, 3)
    record(place, recipe, sources, {"index": index, "assign": first})
    run = rayscan.open(place.uri)
    place.write("clusters.json", json.dumps([{**run.clusters[0], "name": "cats"}]).encode())
    record(place, recipe, sources, {"index": index})  # a second run records stage by stage
    record(place, recipe, sources, {"index": index, "assign": first})
    assert run.clusters[0]["name"] == "cats"
    record(place, recipe, sources, {"index": index, "assign": assigned(place, 4)})
    assert run.clusters[0] == {"cluster": 0, "name": "cluster 0", "size": 4}
    assert rayscan.open(place.uri).recipe == recipe


def test_edited_names_belong_to_the_result_they_were_given_to(place: Place) -> None:
    recipe, sources = by_name("digits"), {"data": "x", "eval_data": None, "labels": None}
    first, second = assigned(place, 3), assigned(place, 4)
    result, other = (load(place.child(str(said["directory"]))) for said in (first, second))
    assert edited_names(result) == {}  # nothing is published yet
    record(place, recipe, sources, {"assign": first})
    assert edited_names(result) == {}
    run = rayscan.open(place.uri)
    place.write("clusters.json", json.dumps([{**run.clusters[0], "name": "cats"}]).encode("utf-16"))
    assert edited_names(result) == {0: "cats"} and edited_names(other) == {}
    new = place.child("new")
    record(new, recipe, {"data": None, "eval_data": "y", "labels": None}, {"assign": assigned(new, 2)})
    inherit_names(run, new)
    assert rayscan.open(new.uri).cluster_names == {0: "cats"}
    edited = [{**rayscan.open(new.uri).clusters[0], "name": "lions"}]
    new.write("clusters.json", json.dumps(edited).encode())
    inherit_names(run, new)  # the same prediction again
    assert rayscan.open(new.uri).cluster_names == {0: "lions"}


def test_no_run_is_said_so(place: Place) -> None:
    with pytest.raises(ArtifactError, match="no run here"):
        rayscan.open(place.uri)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_saved_recipe_has_the_fingerprints_of_the_one_in_code(name: str) -> None:
    recipe = RECIPES[name]()
    assert digest(semantic(recipe_from_json(recipe_to_json(recipe), ""))) == digest(semantic(recipe))


def test_a_misspelled_key_in_a_recipe_file_is_named() -> None:
    text = recipe_to_json(by_name("cifar10")).replace(b'"entropy_weight"', b'"entropy_wieght"')
    with pytest.raises(ConfigError, match=r"scan\.entropy_wieght"):
        recipe_from_json(text, "recipe.json")
