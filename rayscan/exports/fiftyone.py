"""Export as FiftyOne's FiftyOneImageClassificationDataset, without copying a picture.

A directory with `labels.json`: classes, and for each image its label and confidence under a number;
`paths.json` says where each number lies, and `load_fiftyone.py` makes a dataset of both.
"""

from __future__ import annotations

import json
from typing import IO

from rayscan.exports.rows import class_names, named_images
from rayscan.exports.whole_file import write_whole
from rayscan.run import Run
from rayscan.storage import Place

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
    """
    classes = class_names(run)
    number_of = {name: number for number, name in enumerate(classes)}
    place = Place(out)

    def labels(sink: IO[bytes]) -> int:
        sink.write(b'{"classes": ' + json.dumps(classes).encode() + b', "labels": {')
        count = 0
        for image in named_images(run, COLUMNS):
            label = {"label": number_of[image["name"]], "confidence": round(float(image["confidence"]), 6)}
            sink.write(f"{',' * (count > 0)}\n{json.dumps(str(image['gid']))}: {json.dumps(label)}".encode())
            count += 1
        sink.write(b"\n}}\n")
        return count

    def paths(sink: IO[bytes]) -> int:
        sink.write(b"{")
        count = 0
        for image in named_images(run, COLUMNS):
            row = {
                "path": image["source"] or image["key"],
                "split": image["split"],
                "margin": round(float(image["margin"]), 6),
            }
            sink.write(f"{',' * (count > 0)}\n{json.dumps(str(image['gid']))}: {json.dumps(row)}".encode())
            count += 1
        sink.write(b"\n}\n")
        return count

    write_whole(place.uri_of("paths.json"), paths)
    place.write("load_fiftyone.py", LOADER.encode())
    return write_whole(place.uri_of("labels.json"), labels)
