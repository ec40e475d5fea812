"""A run on storage: its settings, its results, and its tables.

<out>/
  run.json recipe.json                 sources and settings, and the directory of each stage's result
  assignments.parquet clusters.json    copies of the final results, for people and other programs
  scores.json report/index.html
  <stage>-<hash12>/                    the results themselves (artifacts.py)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

import pyarrow as pa

from rayscan.artifacts import Artifact, load
from rayscan.assignments import CLUSTERS
from rayscan.config import Recipe
from rayscan.errors import ArtifactError, ConfigError
from rayscan.methods import FINDS, METHODS, NEEDS_LABELS
from rayscan.out_kinds import PREDICTION, RECORD, kind_of, kind_of_sources, read_record
from rayscan.sections import Section, variant_sections
from rayscan.storage import Place
from rayscan.version import __version__

S = TypeVar("S", bound=Section)

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
            ArtifactError: there is no run, or its record cannot be read.
        """
        self.place = Place(uri)
        found = read_record(self.place)
        if found is None:
            raise ArtifactError(
                "there is no run here", expected=RECORD, where=self.place.uri, fix="pass the --out of a run"
            )
        self.record: dict[str, Any] = found

    @property
    def recipe(self) -> Recipe:
        """The resolved settings, with the number of clusters that was found in the place of `auto`."""
        asked = self.asked
        found = self.record["stages"].get(FINDS, {}).get("num_clusters")
        return replace(asked, num_clusters=found) if asked.is_auto and found is not None else asked

    @property
    def asked(self) -> Recipe:
        """The settings as they were given: with them the same run goes on."""
        return recipe_from_json(self.place.read("recipe.json"), self.place.uri_of("recipe.json"))

    def artifact(self, stage: str) -> Artifact:
        """Load the result of a stage.

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
                fix=self._way_to(stage),
            ) from error
        return load(self.place.child(directory))

    @property
    def kind(self) -> str:
        """`a run`, or `a prediction`."""
        return kind_of(self.record)

    def _way_to(self, stage: str) -> str:
        """What to do about a stage that has no result here."""
        if self.kind == PREDICTION and stage not in NEEDS_LABELS:
            return "this is a prediction, which learns nothing: pass the --out of the run whose model made it"
        needs = ", with --labels" if stage in NEEDS_LABELS else ""
        return f"run the same command again{needs}"

    @property
    def assignments(self) -> pa.Table:
        """One row per image: gid, source, cluster, confidence, ... (see docs/story.md)."""
        return self.artifact("assign").read_table("assignments.parquet")

    @property
    def edits(self) -> str:
        """What tells the edits of its assignments from others; empty if nobody edited them."""
        said = self.record["stages"].get("assign", {})
        return str(said["directory"]).rpartition("-")[2] if "original" in said else ""

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
        """The scores against labels, as evaluate wrote them."""
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
    """Write the record of a run, and copy its final results to fixed names under --out.

    A copy is only made when the result behind it is new, so that edited cluster names stay.
    """
    published = dict((read_record(place) or {}).get("published", {}))
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
        "kind": kind_of_sources(sources),
        "recipe": recipe.name,
        "sources": dict(sources),
        "stages": dict(stages),
        "published": published,
    }
    place.write(RECORD, json.dumps(value, indent=2).encode())


def recorded_stages(place: Place) -> dict[str, dict[str, Any]]:
    """Return the record of each stage; empty if there is no record yet."""
    return dict((read_record(place) or {}).get("stages", {}))


def with_former_times(stage: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a stage; one that was taken over keeps the times of when it was done."""
    if not stage["reused"] or former.get("directory") != stage["directory"]:
        return dict(stage)
    return {**former, "reused": True}


def recipe_to_json(recipe: Recipe) -> bytes:
    """The whole recipe; a section with variants holds its tag and the settings of that variant."""
    return json.dumps(asdict(recipe), indent=2).encode()


def recipe_from_json(data: bytes, where: str) -> Recipe:
    """Return the recipe that a JSON file holds.

    Raises:
        ConfigError: a key is unknown, a tag is missing or a value does not fit, naming it.
    """
    try:
        tree = json.loads(data)
    except ValueError as error:
        raise _unusable("a JSON object", error, where) from error
    if not isinstance(tree, dict):
        raise _unusable("a JSON object", type(tree).__name__, where)
    for name, section in variant_sections(Recipe).items():
        if name not in tree:
            continue
        tag = tree[name].get(section.TAG) if isinstance(tree[name], dict) else None
        made = section.VARIANTS.get(str(tag))
        if made is None:
            raise _unusable(f"one of {', '.join(section.VARIANTS)}", tag, f"{where}: {name}.{section.TAG}")
        tree[name] = _validated(made, tree[name], f"{where}: {name}.")
    return _validated(Recipe, tree, f"{where}: ")


def _validated(made: type[S], tree: object, where: str) -> S:
    """A section from its JSON tree; a subtree may be a section already."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(made).validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = where + ".".join(str(p) for p in first["loc"])
        raise _unusable(first["msg"], first.get("input"), key) from error


def _unusable(expected: str, got: object, where: str) -> ConfigError:
    return ConfigError(
        "the recipe file cannot be used",
        expected=expected,
        got=got,
        where=where,
        fix="correct the key, or start from a recipe by name",
    )


def require_clusters(recipe: Recipe, *, may_find: bool = False) -> None:
    """Refuse a recipe that does not say how many clusters to form.

    Args:
        recipe: All settings.
        may_find: Whether `auto` will do, where the method can find the number.

    Raises:
        ConfigError: num_clusters is missing.
    """
    if isinstance(recipe.num_clusters, int):
        return
    can_find = may_find and METHODS[recipe.method].finds_clusters
    if recipe.is_auto and can_find:
        return
    raise ConfigError(
        "setting num_clusters is missing",
        expected="a number: how many clusters to form" + ", or auto" * can_find,
        got=recipe.num_clusters,
        where="num_clusters",
        fix="pass --num-clusters NUMBER; `rayscan howmany RUN` suggests one for a run that went --until mine",
    )
