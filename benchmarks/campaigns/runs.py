"""What campaigns over experiments share: `rayscan experiment` in windows of time, results copied."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.campaign import Window
from rayscan.config import Recipe
from rayscan.run import recipe_to_json


def run_experiment(window: Window, name: str, recipe: Recipe, out: Path, options: Sequence[str]) -> bool:
    """Run an experiment until it is done or the window closes; a later call goes on where it was.

    Args:
        window: The time that is left.
        name: Of the experiment.
        recipe: What it varies.
        out: Where its runs lie.
        options: Further ones of `rayscan experiment`.

    Returns:
        Whether it is done.

    Raises:
        RuntimeError: it failed by itself.
    """
    out.mkdir(parents=True, exist_ok=True)
    asked = out / f"asked-{name}.json"
    asked.write_bytes(recipe_to_json(recipe))
    return window.ends(["experiment", name, str(asked), "--out", str(out), *options])


def arguments(doc: str | None, out: str, *, takes_pretext: bool = False) -> argparse.Namespace:
    """`[--out DIR] [--seeds N] [--window SECONDS] [--write FOLDER] [--only NAME ...] [--tiny]`.

    Args:
        doc: What `--help` tells.
        out: Where runs lie by default.
        takes_pretext: `--pretext RUN` is demanded as well.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--window", type=float, metavar="SECONDS", help="stop in time and resume later")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="copy tables and figures there")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these experiments alone")
    parser.add_argument("--tiny", action="store_true", help="rehearse in minutes; its scores mean nothing")
    if takes_pretext:
        parser.add_argument("--pretext", type=Path, required=True, metavar="RUN", help="whose network it is")
    return parser.parse_args()


def publish(out: Path, name: str, folder: Path, label: str, note: str) -> None:
    """Copy the table and the figure of an experiment to FOLDER/LABEL/, the note above the table."""
    source, target = out / "experiments" / name, folder / label
    target.mkdir(parents=True, exist_ok=True)
    title, rest = (source / "table.md").read_text(encoding="utf-8").split("\n", 1)
    text = f"{title}\n\n{note}\n{rest}".replace("](figure.svg)", f"]({name}.svg)")
    (target / f"{name}.md").write_text(text, encoding="utf-8")
    shutil.copyfile(source / "figure.svg", target / f"{name}.svg")
