"""New images through the model of a finished run: index, embed, assign and report, the stages of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rayscan import pipeline
from rayscan.artifacts import Artifact
from rayscan.cluster_names import inherit_names
from rayscan.config import Recipe
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.edits.applying import directory_of
from rayscan.edits.rerun import predicted
from rayscan.engine.inference.choice import engine_family, is_usable
from rayscan.errors import ConfigError
from rayscan.fleet.connect import Fleet
from rayscan.lock import RunLock
from rayscan.methods import METHODS
from rayscan.out_kinds import PREDICTION
from rayscan.run import Run, record
from rayscan.spaces import ALONE, parse_spaces
from rayscan.stages import assign, embed, index, join, pretext, report
from rayscan.stages.per_space import for_spaces, key_of
from rayscan.storage import Place
from rayscan.training.spaces import require_spaces


def predict(
    run_uri: str,
    data: str | None,
    out_uri: str,
    features: tuple[str, ...] = (),
    reading: Sources | None = None,
) -> Place:
    """Cluster new images by the model of a run, and render a page of them.

    Args:
        run_uri: `--out` of the run.
        data: New images: shards, a folder, or a list; None if their features are all there is.
        out_uri: Where `assignments.parquet`, `clusters.json` and `report/index.html` go.
        features: New embeddings, `file:PATH`, in the place of each file the run read.
        reading: Which parts of the files are the images: column, member, boxes.

    Returns:
        The place of the results.

    Raises:
        ArtifactError: the run has no trained model.
        ConfigError: the run read embeddings from files, and there are none of the new images; or the reverse.
        DataError: the new images or embeddings cannot be read, or are of another width.
    """
    trained = Run(run_uri)
    out, progress = Place(out_uri), Progress()
    recipe = _settings(trained, features, progress.say)
    model = METHODS[recipe.method].model
    shown = data or next((ALONE + space.target for space in recipe.spaces if space.kind == "file"), None)
    sources = replace(reading or Sources(None), data=None, eval_data=shown, labels=None)
    done = {**networks_of(trained, recipe), model: trained.artifact(model)}
    stages: dict[str, dict[str, Any]] = {}
    with RunLock(out, kind=PREDICTION), Fleet(recipe.fleet, out, progress.say) as fleet:
        context = Context(out, sources, fleet, progress)
        for stage in for_spaces((index, pretext, embed, assign), recipe.spaces):
            if stage.NAME not in done:
                done[stage.NAME], stages[stage.NAME] = pipeline.do(stage, recipe, done, context)
                if stage is assign:
                    done[assign.NAME] = predicted(trained, out, done[assign.NAME], done["embed"])
                    stages[stage.NAME]["directory"] = directory_of(done[assign.NAME])
                record(out, recipe, vars(sources), stages)
        inherit_names(trained, out)
        given = {name: done[name] for name in ("index", "assign")} | {report.MODEL: done[model]}
        _, stages[report.NAME] = pipeline.do(report, recipe, given, context)
        record(out, recipe, vars(sources), stages)
    return out


def _settings(trained: Run, features: tuple[str, ...], say: Callable[[str], None]) -> Recipe:
    """Those of the run, for plain images, with the new files and the engine that made its features."""
    recipe = trained.recipe
    recipe = replace(recipe, embed=replace(recipe.embed, num_views=1))
    recipe = replace(recipe, features=with_new_files(recipe, features))
    require_spaces(recipe)
    return with_engine_of(trained, recipe, say)


def with_engine_of(trained: Run, recipe: Recipe, say: Callable[[str], None]) -> Recipe:
    """The settings of a run, with the engine and the precision that made its features.

    Those of another differ in the third digit. Where the run's own machines did not agree there is nothing to
    go by, and where this one lacks the engine, that is said; then it is chosen anew.
    """
    nets = [net for key in _embed_keys(recipe) for net in trained.artifact(key).facts.get("nets", [])]
    made = {(engine_family(net["engine"]), net["precision"]) for net in nets}
    if len(made) != 1:
        return recipe
    ((engine, precision),) = made
    if not is_usable(engine):
        say(
            f"the run's features were made by {engine}, which cannot be used here: another engine takes its "
            "place, and confidence may differ in the third digit (pip install 'rayscan[openvino]')"
        )
    usable = engine if is_usable(engine) else "auto"
    return replace(recipe, embed=replace(recipe.embed, engine=usable, precision=precision))


def _embed_keys(recipe: Recipe) -> list[str]:
    """What the run calls its features of each network."""
    if len(recipe.spaces) == 1:
        return [embed.NAME]
    return [key_of(embed.NAME, space) for space in recipe.spaces]


def with_new_files(recipe: Recipe, features: tuple[str, ...]) -> tuple[str, ...]:
    """The features of a run with the files it read replaced by those of new images.

    Raises:
        ConfigError: there are not as many new files as the run read.
    """
    given = parse_spaces(features) if features else ()
    needed = [space for space in recipe.spaces if space.kind == "file"]
    if len(given) != len(needed) or any(space.kind != "file" for space in given):
        raise ConfigError(
            "the features of the new images do not go with those of the run",
            expected=f"{len(needed)} of the form file:PATH, in the order of {', '.join(recipe.features)}",
            got=", ".join(features) or "none",
            where="features",
            fix="networks are taken from the run; pass a file for each file that the run read",
        )
    new = iter(given)
    return tuple(next(new).spec if space.kind == "file" else space.spec for space in recipe.spaces)


def networks_of(trained: Run, recipe: Recipe) -> dict[str, Artifact]:
    """What makes the features of new images: networks, components of a join, ranges of more than 8 bits."""
    spaces = recipe.spaces
    ranges = {index.TRAINED: trained.artifact(index.NAME)}
    if len(spaces) == 1:
        return ranges | ({"pretext": trained.artifact("pretext")} if spaces[0].has_net else {})
    keys = [key_of(pretext.NAME, space) for space in spaces if space.has_net]
    return ranges | {key: trained.artifact(key) for key in keys} | {join.TRAINED: trained.artifact(join.NAME)}
