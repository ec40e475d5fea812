"""Criteria that see no label against the true accuracy of many trials: rank correlation and regret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.search import stored_trials

BOOTSTRAPS = 2_000
SIGNS = {"score": 1, "nmi_nn": 1, "cv_mi": 1, "train_loss": -1, "scan_val_loss": -1, "silhouette": 1}
"""Criteria, and whether more is better."""
RIVALS = ("train_loss", "scan_val_loss", "silhouette")

Floats = NDArray[np.float64]


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation (Spearman), ties at their mean rank; nan where one is constant."""
    return float(spearman_rows(a[None], b[None])[0])


def spearman_rows(a: Floats, b: Floats) -> Floats:
    """Rank correlation of each row of a [R, n] with that of b [R, n]: [R]."""
    from scipy.stats import rankdata

    x, y = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (rankdata(a, axis=1), rankdata(b, axis=1)))
    with np.errstate(invalid="ignore"):
        found: Floats = (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return found


def regret(acc: Floats, criterion: Floats) -> float:
    """ACC that is lost by trusting a criterion."""
    return float(acc.max() - acc[criterion.argmax()])


def judged(columns: Mapping[str, Floats], keep: NDArray[np.bool_]) -> dict[str, Any]:
    """Both figures for every criterion over some of the trials, with bootstrap intervals."""
    acc = columns["acc"][keep]
    values = {name: sign * columns[name][keep] for name, sign in SIGNS.items()}
    found: dict[str, Any] = {"trials": int(keep.sum()), "acc_min": acc.min(), "acc_max": acc.max()}
    rng = np.random.default_rng(0)
    drawn = np.array([rng.integers(0, len(acc), len(acc)) for _ in range(BOOTSTRAPS)])
    ranks = {n: spearman_rows(v[drawn], acc[drawn]) for n, v in values.items()}
    for name, value in values.items():
        trusted = np.take_along_axis(acc[drawn], value[drawn].argmax(axis=1)[:, None], axis=1)[:, 0]
        found[name] = {
            "spearman": spearman(value, acc),
            "spearman_95": interval(ranks[name]),
            "regret": regret(acc, value),
            "regret_95": interval(acc[drawn].max(axis=1) - trusted),
        }
        if name in RIVALS:
            found[name]["score_leads_by_95"] = interval(ranks["score"] - ranks[name])
    return found


def interval(values: Floats) -> list[float]:
    """The middle 95 %; resamples without any spread are left out."""
    return [float(q) for q in np.nanquantile(values, [0.025, 0.975])]


def gates(
    columns: Mapping[str, Floats], trials: Sequence[stored_trials.Trial], num_clusters: int
) -> dict[str, Any]:
    """Which trials are looked at."""
    whole = np.ones(len(trials), bool)
    accepted = np.array([t.status == "finished" for t in trials])
    strict = np.array(
        [t.facts["used_clusters"] >= 0.95 * num_clusters and t.facts["balance"] >= 0.8 for t in trials]
    )
    return {
        name: judged(columns, keep)
        for name, keep in (("all", whole), ("gated", accepted), ("strict", strict))
        if keep.sum() >= 5
    }


def show(found: Mapping[str, Any]) -> None:
    """Tables for docs/results/search.md."""
    for gate, result in found.items():
        print(
            f"\n{gate}: {result['trials']} trials, ACC {result['acc_min']:.3f} to {result['acc_max']:.3f}\n"
        )
        print("| criterion | Spearman with ACC | regret |\n|---|---|---|")
        for name in SIGNS:
            r = result[name]
            cells = [
                f"{r[k]:+.3f} ({r[f'{k}_95'][0]:+.3f} to {r[f'{k}_95'][1]:+.3f})"
                for k in ("spearman", "regret")
            ]
            print(f"| {name} | {cells[0]} | {cells[1].replace('+', '')} |")
