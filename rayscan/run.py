"""A run on storage: what it was asked, which results it has, and its tables.

<out>/
  run.json recipe.json                 what was asked, and the directory of each stage's result
  assignments.parquet clusters.json    copies of the final results, for people and other programs
  scores.json report/index.html
  <stage>-<hash12>/                    the results themselves (artifacts.py)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from rayscan.artifacts import Artifact, load
from rayscan.config import Recipe
from rayscan.errors import ArtifactError, ConfigError
from rayscan.sections import require
from rayscan.storage import Place
from rayscan.version import __version__

RECORD = "run.json"
CLUSTERS = "clusters.json"
PUBLISHED = {
    "assignments.parquet": ("assign", "assignments.parquet"),
    "clusters.json": ("assign", "clusters.json"),
    "scores.json": ("evaluate", "scores.json"),
    "report/index.html": ("report", "index.html"),
}
"""Path under --out -> stage and file it is a copy of."""


class Run:
    """A finished or unfinished run, opened for reading."""

    def __init__(self, uri: str) -> None:
        """Open by its `--out`.

        Raises:
            ArtifactError: there is no run.
        """
        self.place = Place(uri)
        try:
            self.record: dict[str, Any] = json.loads(self.place.read(RECORD))
        except FileNotFoundError as error:
            raise ArtifactError(
                "there is no run here", expected=RECORD, where=self.place.uri, fix="pass the --out of a run"
            ) from error

    @property
    def recipe(self) -> Recipe:
        """The resolved settings."""
        return recipe_from_json(self.place.read("recipe.json"), self.place.uri_of("recipe.json"))

    def artifact(self, stage: str) -> Artifact:
        """The result of a stage.

        Raises:
            ArtifactError: the run has none.
        """
        try:
            directory = self.record["stages"][stage]["directory"]
        except KeyError as error:
            raise ArtifactError(
                f"the run has no result of stage {stage}",
                expected=", ".join(self.record["stages"]) or "none yet",
                got=stage,
                where=self.place.uri,
                fix="run the same command again; evaluate needs labels",
            ) from error
        return load(self.place.child(directory))

    @property
    def assignments(self) -> pa.Table:
        """One row per image: gid, source, cluster, confidence, ... (see docs/story.md)."""
        return self.artifact("assign").read_table("assignments.parquet")

    @property
    def neighbors(self) -> pa.Table:
        """Mined neighbors of the train images: gid, ids, scores and, under a rule of `mine`, chosen."""
        return self.artifact("mine").read_table("neighbors.parquet")

    @property
    def clusters(self) -> list[dict[str, Any]]:
        """The clusters, with the names that a user may have given them in clusters.json.

        Raises:
            ArtifactError: the file is missing or is no longer a list of clusters.
        """
        try:
            clusters: list[dict[str, Any]] = json.loads(self.place.read(CLUSTERS))
            is_right = all({"cluster", "name"} <= cluster.keys() for cluster in clusters)
        except FileNotFoundError as error:
            raise self._bad_clusters("no file") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise self._bad_clusters(error) from error
        if not is_right:
            raise self._bad_clusters("an entry without them")
        return clusters

    def _bad_clusters(self, got: object) -> ArtifactError:
        return ArtifactError(
            "the clusters cannot be read",
            expected="a JSON list with a cluster and a name in each entry",
            got=got,
            where=self.place.uri_of(CLUSTERS),
            fix="correct it, or remove it and run the same command again",
        )

    @property
    def cluster_names(self) -> dict[int, str]:
        """Number of each cluster -> its name, see `clusters`."""
        return {int(cluster["cluster"]): str(cluster["name"]) for cluster in self.clusters}

    @property
    def scores(self) -> dict[str, Any]:
        """Scores against labels."""
        scores: dict[str, Any] = self.artifact("evaluate").read_json("scores.json")
        return scores

    @property
    def report(self) -> str:
        """Address of the report page."""
        return self.place.uri_of("report/index.html")


def open_run(uri: str) -> Run:
    """Open a run by its `--out`."""
    return Run(uri)


def record(
    place: Place, recipe: Recipe, sources: Mapping[str, str | None], stages: Mapping[str, Any]
) -> None:
    """Write what a run has so far, and copy its final results to where people look.

    A copy is only made when the result behind it is new, so that edited cluster names stay.
    """
    try:
        published = dict(json.loads(place.read(RECORD))["published"])
    except FileNotFoundError:
        published = {}
    for path, (stage, name) in PUBLISHED.items():
        if stage not in stages:
            continue
        directory = stages[stage]["directory"]
        if published.get(path) != directory or place.size(path) is None:
            place.write(path, load(place.child(directory)).read(name))
            published[path] = directory
    place.write("recipe.json", recipe_to_json(recipe))
    value = {
        "rayscan": __version__,
        "recipe": recipe.name,
        "sources": dict(sources),
        "stages": dict(stages),
        "published": published,
    }
    place.write(RECORD, json.dumps(value, indent=2).encode())


def recorded_stages(place: Place) -> dict[str, dict[str, Any]]:
    """What the record says of each stage; empty if there is no record yet."""
    try:
        stages: dict[str, dict[str, Any]] = json.loads(place.read(RECORD))["stages"]
    except FileNotFoundError:
        return {}
    return stages


def remembered(said: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a stage that was taken over still tells what it took when it was done."""
    if not said["reused"] or before.get("directory") != said["directory"]:
        return dict(said)
    return {**before, "reused": True}


def recipe_to_json(recipe: Recipe) -> bytes:
    """The whole recipe."""
    from pydantic import TypeAdapter

    return TypeAdapter(Recipe).dump_json(recipe, indent=2)


def recipe_from_json(data: bytes, where: str) -> Recipe:
    """A recipe again.

    Raises:
        ConfigError: a key is unknown or a value does not fit, naming it.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Recipe).validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            "the recipe file cannot be used",
            expected=first["msg"],
            got=first.get("input"),
            where=f"{where}: {'.'.join(str(p) for p in first['loc'])}",
            fix="correct the key, or start from a recipe by name",
        ) from error


def require_clusters(recipe: Recipe) -> None:
    """Refuse a recipe that does not say how many clusters to form.

    Raises:
        ConfigError: num_clusters is missing.
    """
    require(recipe.num_clusters is not None, "num_clusters", "a number: how many clusters to form", None)
