"""New images through the model of a finished run: index, embed, assign and report, the stages of the run."""

from __future__ import annotations

from dataclasses import replace

from rayscan import pipeline
from rayscan.artifacts import Artifact
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.fleet.connect import Fleet
from rayscan.lock import RunLock
from rayscan.methods import METHODS
from rayscan.run import Run, record
from rayscan.stages import assign, embed, index, report
from rayscan.storage import Place


def predict(run_uri: str, data: str, out_uri: str, image_column: str | None = None) -> Place:
    """Cluster new images by the model of a run, and render a page of them.

    Args:
        run_uri: `--out` of the run.
        data: New images: shards, a folder, or a list.
        out_uri: Where `assignments.parquet`, `clusters.json` and `report/index.html` go.
        image_column: The column with the images, where they are in Parquet files.

    Returns:
        The place of the results.

    Raises:
        ArtifactError: the run has no trained model.
        DataError: the new images cannot be read.
    """
    trained = Run(run_uri)
    recipe = replace(trained.recipe, embed=replace(trained.recipe.embed, num_views=1))
    model = METHODS[recipe.method].model
    out, progress = Place(out_uri), Progress()
    sources = Sources(data=None, eval_data=data, image_column=image_column)
    done: dict[str, Artifact] = {name: trained.artifact(name) for name in ("pretext", model)}
    stages: dict[str, object] = {}
    with RunLock(out), Fleet(recipe.fleet, out, progress.say) as fleet:
        context = Context(out, sources, fleet, progress)
        for stage in (index, embed, assign):
            done[stage.NAME], stages[stage.NAME] = pipeline.do(stage, recipe, done, context)
            record(out, recipe, vars(sources), stages)
        shown = {"index": done["index"], "assign": done["assign"], report.MODEL: done[model]}
        _, stages[report.NAME] = pipeline.do(report, recipe, shown, context)
        record(out, recipe, vars(sources), stages)
    return out
