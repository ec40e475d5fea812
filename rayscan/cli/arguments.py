"""What each command takes; tyro turns the fields into options and their docstrings into help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from rayscan.config import Recipe


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """Cluster images: every stage that is not done yet, from index to report."""

    recipe: Annotated[Recipe, arg(name="")]
    data: str
    """Images of the train split: shards (globs, braces, lists), a folder, or a .csv/.parquet/.txt list."""
    out: str
    """Directory or object-store prefix of the run. The same command again resumes or does nothing."""
    eval_data: str | None = None
    """Images of the eval split: clustered and scored, never trained on."""
    labels: str | None = None
    """CSV or Parquet with a label for some images; opened only by evaluate and after."""
    until: str | None = None
    """Stop after this stage: index, pretext, embed, mine, ..."""
    plan: bool = False
    """Say what would run and why, and do nothing."""
    verify: bool = False
    """Re-hash every result that is taken over, instead of looking at sizes."""


@dataclass(frozen=True, kw_only=True)
class SearchArguments:
    """Find settings without a label: many trials, scored by neighbors and a linear rule."""

    recipe: Annotated[Recipe, arg(name="")]
    data: str
    """Images of the train split, as for `run`."""
    out: str
    """As for `run`: index, pretext, embed and mine are taken over or left for a later run. The search writes
    search/results.parquet, search/recipe.json and search/index.html. The same command again goes on."""
    eval_data: str | None = None
    """Images of the eval split: indexed and embedded, so that `run` with the same --out takes them over; no
    part of the score."""
    trials: int = 60
    """Trials, those of an earlier search in this --out included."""
    space: tuple[str, ...] = ()
    """Settings to vary: path=low:high, path=low:high:log, path=one,another. Without it entropy weight, K
    and threshold."""
    from_images: bool = False
    """Train whole trials on images instead of heads on cached embeddings; any setting may then vary."""
    finalists: int = 3
    """Best trials that are run again with other seeds."""
    seeds: int = 3
    """Runs of each finalist."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Learn from the trials so far, or draw at random."""
    early_stopping: bool = True
    """Stop heads that are worse than others after the same training (ASHA)."""
    concurrent: int | None = None
    """Trials at once; without it as many as fit."""
    gpus_per_trial: float | None = None
    """GPUs of a trial of heads; without it a quarter where there are any."""


@dataclass(frozen=True, kw_only=True)
class DemoArguments:
    """Cluster the handwritten digits that ship with scikit-learn, from pixels to report."""

    recipe: Annotated[Recipe, arg(name="")]
    out: str = "runs/demo"
    """Where the digits, as WebDataset shards, and the run go."""


@dataclass(frozen=True, kw_only=True)
class ShardArguments:
    """Pack images, a folder (nested or flat) or a list, into WebDataset shards. Again: adds what is new."""

    folder: Positional[str]
    out: Positional[str]
    labels_from_folders: bool = False
    """The first folder level names the class: also write labels.parquet beside the shards."""
    resize: bool = False
    """Re-encode larger pictures to a short side of 256 px; without it files are copied byte for byte."""
    resize_px: int | None = None
    """The same with another short side."""
    imagenet_classes: Literal[50, 100, 200] | None = None
    """Take only the classes of ImageNet-50, -100 or -200 of the SCAN paper, by folders of WordNet ids."""
    address: str | None = None
    """Ray to join; none starts one here if it is worth it."""
    shard_megabytes: float = 200.0
    """Size at which a new shard begins."""


@dataclass(frozen=True, kw_only=True)
class IndexArguments:
    """Look through images, check that each one decodes, and write the index of a run."""

    data: Positional[str]
    out: str
    """Where the index goes; a later `run` with the same --out takes it over."""
    eval_data: str | None = None
    """Images of the eval split."""
    on_bad: Literal["skip", "stop"] = "skip"
    """Images that cannot be decoded go into quarantine, or end the command."""
    max_bad_fraction: float = 0.001
    """With skip: end the command when more than this share is bad."""


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """Score a finished run against labels."""

    run: Positional[str]
    labels: str | None = None
    """CSV or Parquet with `label` and one of id, source, key; without it, labels inside the shards."""


@dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """Clusters of new images, by the model of a run."""

    run: Positional[str]
    data: str
    """New images: shards, a folder, or a list."""
    out: str
    """Where assignments.parquet and the report go."""


@dataclass(frozen=True, kw_only=True)
class TransferArguments:
    """Clusters of a run judged on another set of images, as on ObjectNet in arXiv 2008.10312."""

    run: Positional[str]
    data: str
    """The other images: shards, a folder, or a list."""
    out: str
    """Where their assignments and transfer.json go."""
    labels: str | None = None
    """Their labels; without it, labels inside the shards."""
    class_map: str | None = None
    """CSV with columns `class` (theirs) and `maps_to` (the run's), a row per pair; else equal names."""


@dataclass(frozen=True, kw_only=True)
class ReportArguments:
    """Render the page of a run again."""

    run: Positional[str]
    images: Literal["thumbnails", "none"] | None = None
    """Whether pictures are put into the page."""
    max_megabytes: float | None = None
    """Size cap of the page."""


@dataclass(frozen=True, kw_only=True)
class StatusArguments:
    """What a run has done, what that took, and what is left; starts nothing."""

    run: Positional[str]


@dataclass(frozen=True, kw_only=True)
class CompareArguments:
    """A table of runs: mean and deviation over seeds, k-means beside."""

    runs: Positional[tuple[str, ...]]
    json: bool = False
    """Print JSON."""
    table1: bool = False
    """Print ACC, ARI, AMI, NMI as Table 1 of arXiv 2008.10312 has them."""


@dataclass(frozen=True, kw_only=True)
class DoctorArguments:
    """Without DATA: are the machines fit? With it: say what is there: images, damage, odd files."""

    data: Positional[str | None] = None
    """Images: shards, a folder, or a list."""
    against: str | None = None
    """A run or an index directory: compare every byte with what it recorded."""
    address: str | None = None
    """Ray whose nodes are looked at: auto, or host:port; RAY_ADDRESS if not given, else this machine alone.
    With DATA: Ray to join for large collections; none starts one here if it is worth it."""
    out: str | None = None
    """Without DATA: an --out that every node shall write and read."""


@dataclass(frozen=True, kw_only=True)
class ExperimentArguments:
    """A table or figure of a paper on your images: mean and deviation over seeds, all runs in one --out."""

    recipe: Annotated[Recipe, arg(name="")]
    data: str
    """Images of the train split: shards (globs, braces, lists), a folder, or a .csv/.parquet/.txt list."""
    out: str
    """Where the runs go; tables and figures go to experiments/NAME in it. One --out shares all results."""
    eval_data: str | None = None
    """Images of the eval split, which is then the one that is scored."""
    labels: str | None = None
    """CSV or Parquet with a label for some images; without it, labels inside the shards."""
    seeds: int = 3
    """Runs of each row, from the recipe's seed on."""


@dataclass(frozen=True, kw_only=True)
class MergeArguments:
    """Say which clusters of a run would join, by the links between their images' neighbors."""

    run: Positional[str]
    to: int | None = None
    """Also write the assignments with so many clusters."""
    out: str | None = None
    """Parquet file for them; none takes assignments-C.parquet in the run."""


@dataclass(frozen=True, kw_only=True)
class ConsensusArguments:
    """One grouping from several runs of the same images, or from the heads of one run."""

    runs: Positional[tuple[str, ...]]
    out: str
    """Parquet file: gid, cluster, agreement."""
