"""Export as tags of CVAT, in its own XML 1.1: no picture is copied, a cluster is a tag of source `auto`.

Upload the pictures as a task first; names have to be as here. Ids follow the lexical order of names, as CVAT
numbers its frames.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import PurePosixPath
from typing import IO
from xml.sax.saxutils import quoteattr

from rayscan.exports.rows import class_names, named_images
from rayscan.exports.whole_file import write_whole
from rayscan.run import Run

COLUMNS = ("source", "key", "cluster")


def export_cvat(run: Run, out: str) -> str:
    """Clusters as image tags for CVAT, XML 1.1.

    Args:
        run: A run with assignments.
        out: The file.

    Returns:
        A line that says how many images were written.

    Raises:
        ArtifactError: the run has no assignments, or clusters.json lacks one of the clusters.
    """

    def produce(sink: IO[bytes]) -> int:
        rows = sorted((_name(image), str(image["name"])) for image in named_images(run, COLUMNS))
        sink.write(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        sink.write(_meta(class_names(run)) + b"\n")
        for number, (name, cluster) in enumerate(rows):
            line = (
                f'  <image id="{number}" name={quoteattr(name)}>'
                f'<tag label={quoteattr(cluster)} source="auto"></tag></image>\n'
            )
            sink.write(line.encode())
        sink.write(b"</annotations>\n")
        return len(rows)

    return write_whole(out, produce)


def _name(image: dict[str, object]) -> str:
    return PurePosixPath(str(image["source"] or image["key"])).name


def _meta(names: list[str]) -> bytes:
    meta = ElementTree.Element("meta")
    labels = ElementTree.SubElement(ElementTree.SubElement(meta, "task"), "labels")
    for name in names:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "type").text = "tag"
        ElementTree.SubElement(label, "attributes")
    return bytes(ElementTree.tostring(meta, encoding="utf-8"))
