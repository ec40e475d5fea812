"""Export as pre-annotations of Label Studio: tasks whose clusters are predictions, never annotations.

A directory: `config.xml`, the labelling interface, and `tasks-00000.json` and on, up to 10,000 tasks each, as
its import asks for. Local pictures are named as its local file storage serves them. It appears whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any
from xml.sax.saxutils import quoteattr

from rayscan.exports.rows import class_names, named_images
from rayscan.exports.whole_folder import whole_folder
from rayscan.run import Run
from rayscan.storage import is_local

TASKS_PER_FILE = 10_000
COLUMNS = ("gid", "id", "source", "key", "cluster", "confidence")
FROM, TO = "cluster", "image"
"""Names of the two tags of the interface that a result ties together."""


def export_label_studio(run: Run, out: str) -> str:
    """Tasks for Label Studio with the clusters as predictions, and the interface to correct them.

    Args:
        run: A run with assignments.
        out: The directory.

    Returns:
        A line that says how many tasks were written.

    Raises:
        ArtifactError: the run has no assignments, or clusters.json lacks one of the clusters.
        ConfigError: OUT holds something that no such export wrote.
    """
    facts: dict[str, object] = {"assign": run.artifact("assign").identity}
    with whole_folder(out, "label-studio", facts) as folder:
        made, count, number = _tasks(run), 0, 0
        while tasks := list(islice(made, TASKS_PER_FILE)):
            text = json.dumps(tasks, ensure_ascii=False, indent=1)
            (folder / f"tasks-{number:05d}.json").write_text(text, encoding="utf-8")
            count, number = count + len(tasks), number + 1
        (folder / "config.xml").write_text(_interface(class_names(run)), encoding="utf-8")
        facts["rows"] = count
    return f"{count:,} tasks: {out}"


def _interface(names: list[str]) -> str:
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in names)
    return (
        f'<View>\n  <Image name="{TO}" value="$image"/>\n'
        f'  <Choices name="{FROM}" toName="{TO}" choice="single">\n{choices}\n  </Choices>\n</View>\n'
    )


def _tasks(run: Run) -> Iterator[dict[str, Any]]:
    version = f"rayscan-{run.artifact('assign').identity[:12]}"
    for image in named_images(run, COLUMNS):
        result = {
            "id": f"r{image['gid']}",
            "type": "choices",
            "from_name": FROM,
            "to_name": TO,
            "value": {"choices": [image["name"]]},
        }
        score = round(float(image["confidence"]), 6)
        yield {
            "data": {"image": _address(image), "rayscan_id": image["id"] or image["key"]},
            "predictions": [{"model_version": version, "score": score, "result": [result]}],
        }


def _address(image: dict[str, Any]) -> str:
    source = image["source"] or image["key"]
    if not is_local(source) or not source.startswith("/"):
        return str(source)
    return f"/data/local-files/?d={source.lstrip('/')}"
