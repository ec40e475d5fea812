"""Tables and figures of the papers by name: `rayscan experiment NAME --data ...`."""

from __future__ import annotations

import difflib

from rayscan.errors import ConfigError
from rayscan.experiments import kmeans, scan, sela
from rayscan.experiments.base import Experiment
from rayscan.experiments.methods import METHODS

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (METHODS, *scan.EXPERIMENTS, *sela.EXPERIMENTS, *kmeans.EXPERIMENTS)
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
