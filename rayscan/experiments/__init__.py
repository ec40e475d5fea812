"""Tables and figures of the papers by name: `rayscan experiment NAME --data ...`."""

from __future__ import annotations

import difflib

from rayscan.errors import ConfigError
from rayscan.experiments import (
    kmeans_clusters,
    kmeans_dimensions,
    methods,
    scan_fig2,
    scan_fig4,
    scan_fig5,
    scan_fig6,
    scan_fig7,
    scan_fig8,
    scan_table1,
    scan_table2,
    scan_table3,
    scan_table4,
    sela_clusters,
    sela_heads,
    sela_imbalance,
    sela_relabelings,
    sela_transfer,
)
from rayscan.experiments.base import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        methods,
        scan_table1,
        scan_table2,
        scan_table3,
        scan_table4,
        scan_fig2,
        scan_fig4,
        scan_fig5,
        scan_fig6,
        scan_fig7,
        scan_fig8,
        sela_clusters,
        sela_heads,
        sela_relabelings,
        sela_imbalance,
        sela_transfer,
        kmeans_dimensions,
        kmeans_clusters,
    )
}
"""Name on the command line -> experiment."""


def experiment_named(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ConfigError: there is none; the message names the nearest ones.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    near = difflib.get_close_matches(name, EXPERIMENTS)
    raise ConfigError(
        f"there is no experiment {name}",
        expected=", ".join(EXPERIMENTS),
        got=name,
        where="rayscan experiment",
        fix=f"perhaps you meant {' or '.join(near)}" if near else "take one of these",
    )
