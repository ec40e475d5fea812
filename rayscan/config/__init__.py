"""Every setting of a run, as frozen dataclasses with their checks. Standard library only: read this first.

A `Recipe` is whole: saved as `recipe.json`, it says all that decides a result.

Letters: B batch, V views, K neighbors, C clusters, H heads, D feature width, P projection width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from rayscan.config.consensus import ConsensusConfig
from rayscan.config.duplicates import DuplicatesConfig
from rayscan.config.fleet import FleetConfig
from rayscan.config.images import ImagesConfig, ViewKind
from rayscan.config.kmeans import KMeansConfig, PcaConfig
from rayscan.config.neighbors import EmbedConfig, MineConfig
from rayscan.config.optimizer import OptimizerConfig
from rayscan.config.pretext import (
    PRETEXTS,
    BYOLConfig,
    InstDiscConfig,
    MoCoConfig,
    PretextConfig,
    RotNetConfig,
    SimCLRConfig,
)
from rayscan.config.results import AssignConfig, EvaluateConfig, ReportConfig
from rayscan.config.scan import SCAN_LOSSES, InformationLossConfig, PmiLossConfig, ScanConfig, ScanLossConfig
from rayscan.config.sela import SelaConfig
from rayscan.config.selflabel import SelfLabelConfig
from rayscan.methods import METHODS
from rayscan.sections import Section, require, setting
from rayscan.spaces import Space, parse_spaces

__all__ = [
    "AUTO",
    "PRETEXTS",
    "SCAN_LOSSES",
    "AssignConfig",
    "BYOLConfig",
    "ConsensusConfig",
    "DuplicatesConfig",
    "EmbedConfig",
    "EvaluateConfig",
    "FleetConfig",
    "ImagesConfig",
    "InformationLossConfig",
    "InstDiscConfig",
    "KMeansConfig",
    "MineConfig",
    "MoCoConfig",
    "OptimizerConfig",
    "PcaConfig",
    "PmiLossConfig",
    "PretextConfig",
    "Recipe",
    "ReportConfig",
    "RotNetConfig",
    "ScanConfig",
    "ScanLossConfig",
    "SelaConfig",
    "SelfLabelConfig",
    "SimCLRConfig",
    "ViewKind",
]

AUTO: Final = "auto"
"""In the place of a number of clusters: it is found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe(Section):
    """Everything that decides a run."""

    name: str
    """Recipe the settings started from."""
    num_clusters: int | Literal["auto"] | None = setting(None, ge=2)
    """Clusters to form (C); auto takes what the features suggest (`rayscan.stages.howmany`), under method
    consensus."""
    method: str = "scan"
    """How images are put into clusters: scan, sela, consensus or kmeans, see `rayscan.methods`."""
    seed: int = setting(0, ge=0)
    """Seed of every random choice."""
    features: tuple[str, ...] = ("own",)
    """Where features come from, one space or several: own trains a network here (`pretext.*`); lite0 and the
    names of docs/howto/features.md are pretrained networks, as is timm/NAME; checkpoint:PATH are weights for
    `pretext.backbone`; file:PATH are embeddings of your own."""
    features_key: Literal["order", "id", "source", "key"] | None = None
    """What matches rows of file:PATH to images; none takes the first of id, source and key that the file has,
    else the order."""
    images: ImagesConfig = ImagesConfig()
    pretext: PretextConfig = SimCLRConfig()
    embed: EmbedConfig = EmbedConfig()
    mine: MineConfig = MineConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    scan: ScanConfig = ScanLossConfig()
    selflabel: SelfLabelConfig = SelfLabelConfig()
    sela: SelaConfig = SelaConfig()
    consensus: ConsensusConfig = ConsensusConfig()
    pca: PcaConfig = PcaConfig()
    kmeans: KMeansConfig = KMeansConfig()
    assign: AssignConfig = AssignConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    fleet: FleetConfig = FleetConfig()

    def check(self) -> None:
        """Refuse an unknown method, and sections that do not go together."""
        require(self.method in METHODS, "method", f"one of {', '.join(METHODS)}", self.method)
        require(
            not (self.pretext.method == "rotnet" and self.embed.space == "projection"),
            "embed.space",
            "backbone: rotnet has no projection",
            self.embed.space,
        )
        first, last = self.pretext.first_px, self.images.size_px
        require(first is None or first <= last, "pretext.first_px", f"up to images.size_px = {last}", first)
        self._check_features()
        require(
            self.method != "consensus" or self.mine.space == "features",
            "mine.space",
            "features: the method consensus whitens by itself",
            self.mine.space,
        )
        farthest = self.duplicates.outlier_neighbors
        require(
            farthest is None or farthest <= self.mine.num_neighbors,
            "duplicates.outlier_neighbors",
            f"1..{self.mine.num_neighbors}, as mine.num_neighbors mines, or none",
            farthest,
        )
        for key in ("num_neighbors", "head_num_neighbors"):
            asked = getattr(self.scan, key)
            require(
                asked is None or 0 <= asked <= self.mine.num_neighbors,
                f"scan.{key}",
                f"0..{self.mine.num_neighbors}, as mine.num_neighbors mines",
                asked,
            )
        heads_k = (
            self.scan.num_neighbors if self.scan.head_num_neighbors is None else self.scan.head_num_neighbors
        )
        require(
            self.scan.inputs == "images" or heads_k > 0 or self.embed.num_views > 1,
            "embed.num_views",
            ">= 2 where heads train on embeddings with K = 0: an image needs another view to agree with",
            self.embed.num_views,
        )

    def _check_features(self) -> None:
        """What trains on images needs one network, whose features are those that were mined."""
        spaces = self.spaces
        is_one_net = len(spaces) == 1 and spaces[0].has_net
        for section in {"scan": ("scan", "selflabel"), "sela": ("sela",)}.get(self.method, ()):
            inputs = getattr(self, section).inputs
            if section == "selflabel" and self.selflabel.epochs == 0:
                continue
            require(
                is_one_net or inputs == "embeddings",
                f"{section}.inputs",
                "embeddings where features come from a file or from several sources",
                inputs,
            )
        require(
            self.embed.space == "backbone" or (is_one_net and spaces[0].kind in ("own", "checkpoint")),
            "embed.space",
            "backbone: only own and checkpoint:PATH have a projection",
            self.embed.space,
        )
        require(
            self.embed.num_views == 1 or is_one_net,
            "embed.num_views",
            "1 where features come from a file or from several sources",
            self.embed.num_views,
        )

    @property
    def spaces(self) -> tuple[Space, ...]:
        """The sources of features."""
        return parse_spaces(self.features)

    @property
    def is_auto(self) -> bool:
        """Whether the number of clusters is still to be found."""
        return self.num_clusters == AUTO

    @property
    def clusters(self) -> int:
        """C, num_clusters as a number; after stage howmany a run's recipe holds what was found."""
        assert isinstance(self.num_clusters, int), self.num_clusters
        return self.num_clusters

    @property
    def clusters_formed(self) -> int:
        """Clusters images are put into: num_clusters, or more under k-means with over-clustering."""
        factor = self.kmeans.over_clustering if self.method == "kmeans" else 1.0
        return round(factor * self.clusters)
