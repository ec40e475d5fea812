"""Export as FiftyOne's FiftyOneImageClassificationDataset, without copying a picture.

A directory with `labels.json`: classes, and for each image its label and confidence under a number;
`paths.json` says where each number lies, and `load_fiftyone.py` makes a dataset of both. It appears whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import IO, Any

from rayscan.exports.rows import class_names, named_images
from rayscan.exports.whole_folder import whole_folder
from rayscan.run import Run

COLUMNS = ("gid", "source", "key", "split", "cluster", "confidence", "margin")
LOADER = '''"""A FiftyOne dataset of the clusters beside this file: python load_fiftyone.py [NAME]."""

import json
import pathlib
import sys

import fiftyone as fo

here = pathlib.Path(__file__).parent
labels = json.loads((here / "labels.json").read_text(encoding="utf-8"))
rows = json.loads((here / "paths.json").read_text(encoding="utf-8"))
dataset = fo.Dataset(sys.argv[1] if len(sys.argv) > 1 else None, persistent=True)
dataset.default_classes = labels["classes"]
samples = []
for number, row in rows.items():
    label = labels["labels"][number]
    sample = fo.Sample(filepath=row["path"], tags=[row["split"]])
    sample["cluster"] = fo.Classification(
        label=labels["classes"][label["label"]], confidence=label["confidence"]
    )
    sample["margin"] = row["margin"]
    samples.append(sample)
dataset.add_samples(samples)
print(f"{len(dataset):,} samples in dataset {dataset.name}")
'''


def export_fiftyone(run: Run, out: str) -> str:
    """Clusters as classification labels for FiftyOne, with a script that loads them.

    Args:
        run: A run with assignments.
        out: The directory.

    Returns:
        A line that says how many images were written.

    Raises:
        ArtifactError: the run has no assignments, or clusters.json lacks one of the clusters.
        ConfigError: OUT holds something that no such export wrote.
    """
    classes = class_names(run)
    facts: dict[str, object] = {"assign": run.artifact("assign").identity}
    with whole_folder(out, "fiftyone", facts) as folder:
        with (folder / "paths.json").open("wb") as sink:
            _write_object(sink, ((image["gid"], _path(image)) for image in named_images(run, COLUMNS)))
        with (folder / "labels.json").open("wb") as sink:
            sink.write(b'{"classes": ' + json.dumps(classes).encode() + b', "labels": ')
            number_of = {name: number for number, name in enumerate(classes)}
            labels = ((image["gid"], _label(image, number_of)) for image in named_images(run, COLUMNS))
            facts["rows"] = count = _write_object(sink, labels)
            sink.write(b"}\n")
        (folder / "load_fiftyone.py").write_text(LOADER, encoding="utf-8")
    return f"{count:,} rows: {out}"


def _write_object(sink: IO[bytes], items: Iterable[tuple[int, dict[str, Any]]]) -> int:
    """Write a JSON object with a line for each item, and return how many there were."""
    sink.write(b"{")
    count = 0
    for gid, value in items:
        sink.write(f"{',' * (count > 0)}\n{json.dumps(str(gid))}: {json.dumps(value)}".encode())
        count += 1
    sink.write(b"\n}")
    return count


def _path(image: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": image["source"] or image["key"],
        "split": image["split"],
        "margin": round(float(image["margin"]), 6),
    }


def _label(image: dict[str, Any], number_of: dict[str, int]) -> dict[str, Any]:
    return {"label": number_of[image["name"]], "confidence": round(float(image["confidence"]), 6)}
