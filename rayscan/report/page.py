"""One self-contained HTML page from `Content`: nothing is requested, no foreign text becomes markup.

Comes from `stages.report`, goes to `index.html`. Three walls: Jinja2 escapes everything; file names and
cluster names reach the page only inside an inert JSON block, from where page.js sets them as text; and
the Content-Security-Policy admits exactly our style sheet and our script, by their sha256, and pictures
in `data:` URLs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from rayscan.methods import METHODS
from rayscan.report import figures
from rayscan.report.content import Content, NearCopies
from rayscan.sections import flat

METRICS = {
    "acc": "ACC, one to one",
    "hungarian_then_majority": "ACC, one to one, rest by majority",
    "acc_tr": "ACC, mapping of the train split",
    "many_to_one": "ACC, many to one",
    "top5": "Top-5",
    "nmi": "NMI",
    "ami": "AMI",
    "ari": "ARI",
    "fowlkes_mallows": "Fowlkes-Mallows",
}
SPLITS = ("eval", "train")
MAX_CONFUSIONS = 12
SCRIPTS = ("edits.js", "edit_bar.js", "page.js")
"""One script of the page, in this order."""


def render(content: Content) -> str:
    """Return the page.

    Returns:
        A whole HTML document, ASCII only outside of names.
    """
    return filled(
        "template.html",
        script="\n".join(map(asset, SCRIPTS)),
        filters={"percent": percent, "compact": figures.compact},
        data=inert_json(_data(content)),
        c=content,
        num_images=sum(content.images.values()),
        method=_method(content.recipe),
        splits=list(_splits(content.scores)),
        headline=_headline(content),
        figures=_figures(content),
        settings=[(path, json.dumps(value)) for path, value in flat(content.recipe).items()],
    )


def filled(
    template: str, *, script: str = "", filters: Mapping[str, Callable[..., object]] = {}, **values: Any
) -> str:
    """Fill in a template of this package, under a policy that admits its style sheet and its script alone.

    Args:
        template: File name.
        script: Of the page, if it has one.
        filters: Of the template, by name.
        values: What the template shows.
    """
    style = asset("page.css")
    admitted = f"script-src {csp_hash(script)}; " if script else ""
    policy = (
        f"default-src 'none'; img-src data:; style-src {csp_hash(style)}; "
        f"{admitted}base-uri 'none'; form-action 'none'"
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters
    return environment.from_string(asset(template)).render(
        policy=policy, style=Markup(style), script=Markup(script), **values
    )


def inert_json(value: object) -> Markup:
    """Return JSON that cannot end the script element it stands in, nor start a comment there."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def percent(value: float) -> str:
    """Return a share as percent with two digits, never a negative zero."""
    return f"{round(100 * value, 2) + 0.0:.2f}"


@cache
def asset(name: str) -> str:
    """Return a file of this package as text."""
    return resources.files("rayscan.report").joinpath(name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """Return the source expression by which a Content-Security-Policy admits exactly this text."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _method(recipe: Mapping[str, Any]) -> str:
    """Return what the page calls the method; only SCAN has a self-labelling stage."""
    has_selflabel = recipe["method"] == "scan" and recipe["selflabel"]["epochs"]
    return METHODS[recipe["method"]].title + (" with self-labelling" if has_selflabel else "")


def _headline_split(scores: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the scores of the split the page leads with: eval, or train where there is no eval."""
    return next((scores["splits"][s] for s in SPLITS if s in scores["splits"]), None) if scores else None


def _headline(content: Content) -> tuple[tuple[str, str], ...]:
    """Return the metrics to lead with; with more clusters than classes, one-to-one accuracy says little."""
    split = _headline_split(content.scores)
    if split and content.num_clusters > len(split["confusion"]["classes"]):
        return ("many_to_one", "Accuracy, many to one"), ("nmi", "NMI"), ("ami", "AMI")
    return ("acc", "Accuracy (ACC)"), ("nmi", "NMI"), ("ari", "ARI")


def _splits(scores: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield one score table per split: metrics down, methods across."""
    for name in SPLITS:
        if not scores or name not in scores["splits"]:
            continue
        split = scores["splits"][name]
        methods = [m for m in METHODS if m in split["methods"]]  # the run's own first, k-means last
        rows = [
            (title, [split["methods"][m].get(metric) for m in methods])
            for metric, title in METRICS.items()
            if any(metric in split["methods"][m] for m in methods)
        ]
        yield {
            "name": name,
            "images": split["images"],
            "labelled": split["labelled"],
            "waste": split.get("waste", 0),
            "methods": [METHODS[m].title for m in methods],
            "rows": rows,
            "best": {title: percent(max(v for v in values if v is not None)) for title, values in rows},
            "title": METHODS[methods[0]].title,
            "scores": split["methods"][methods[0]],
            "kmeans": split["methods"].get("kmeans") if len(methods) > 1 else None,
        }


def _figures(content: Content) -> dict[str, Any]:
    """Draw the charts, by name; those without data are left out by the template."""
    scores, split = content.scores, _headline_split(content.scores)
    purity = {int(k): v for k, v in (scores or {}).get("neighbor_purity", {}).items()}
    confusion = _confusion(split["confusion"], split["per_cluster"]) if split else None
    return {
        "sizes": figures.sizes(np.array([c.size for c in content.clusters if c.number >= 0])),
        "confidence": figures.histogram(content.confidences, 0.0, 1.0, "confidence"),
        "nearest": _nearest(content.copies) if content.copies else None,
        "curves": [
            (c.stage, c.name, figures.curve(c.epochs, c.values, "epoch", f"{c.stage}, {c.name}"))
            for c in content.curves
        ],
        "heads": [
            (
                h.stage,
                figures.dot_plot(
                    h.losses, h.chosen, "head", f"Held-out loss of {len(h.losses)} {h.stage} heads"
                ),
            )
            for h in content.heads
        ],
        "purity": sorted(purity.items()),
        "confusion": confusion[0] if confusion else None,
        "confused": confusion[1] if confusion else [],
    }


def _nearest(copies: NearCopies) -> Markup:
    """Draw how like its nearest neighbor each image is, with the threshold."""
    return figures.histogram(copies.nearest, -1.0, 1.0, "likeness of the nearest", mark=copies.threshold)


def _confusion(
    confusion: Mapping[str, Any], per_cluster: list[Mapping[str, Any]]
) -> tuple[Markup, list[Any]]:
    """Draw clusters against classes in the order of their class, and list the largest counts off it."""
    names = [str(name) for name in confusion["classes"]]
    counts = np.array(confusion["counts"], np.int64).reshape(len(confusion["clusters"]), len(names))
    stands_for = np.array([_class_of(per_cluster[cluster]) for cluster in confusion["clusters"]])
    order = np.lexsort((-counts.sum(axis=1), stands_for))
    rows = [str(confusion["clusters"][i]) for i in order]
    seen = np.flatnonzero(counts.any(axis=0))
    description = f"{len(rows)} clusters against {len(seen)} classes"
    off = counts.copy()
    off[np.arange(len(off)), stands_for] = 0
    worst = np.argsort(-off, axis=None, kind="stable")[:MAX_CONFUSIONS]
    pairs = [divmod(int(flat), len(names)) for flat in worst]
    confused = [
        (confusion["clusters"][i], names[stands_for[i]], names[j], int(off[i, j]))
        for i, j in pairs
        if off[i, j]
    ]
    return figures.heatmap(counts[order][:, seen], rows, [names[j] for j in seen], description), confused


def _class_of(row: Mapping[str, Any]) -> int:
    """Return the class of a cluster with labelled images: its one-to-one match, else its majority."""
    return int(row["majority"] if row["matched"] is None else row["matched"])


def _data(content: Content) -> dict[str, Any]:
    """Return what page.js draws from: rows of values, not objects, since there are thousands of them."""
    split = _headline_split(content.scores)
    known = {row["cluster"]: row for row in split["per_cluster"]} if split else {}
    classes = split["confusion"]["classes"] if split else []
    clusters = []
    for c in content.clusters:
        row = known.get(c.number, {})
        majority, purity = row.get("majority"), row.get("purity")
        class_name = None if majority is None else str(classes[majority])
        clusters.append(
            [
                c.number,
                c.name,
                c.size,
                _rounded(c.mean_confidence),
                _rounded(purity),
                class_name,
                list(c.prototypes),
                list(c.uncertain),
                list(c.proposed),
                list(c.waste),
            ]
        )
    return {
        "fingerprint": content.fingerprint,
        "next": content.next_cluster,
        "clusters": clusters,
        "pictures": {
            str(gid): [p.name, p.cluster, _rounded(p.confidence), _rounded(p.margin), p.url]
            for gid, p in content.pictures.items()
        },
        "neighbors": [[n.anchor, list(n.ids), [_rounded(s) for s in n.scores]] for n in content.neighbors],
        "copies": [list(group) for group in content.copies.groups] if content.copies else [],
        "outliers": [[gid, _rounded(score)] for gid, score in content.outliers],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
