"""What a reader has to know of the features behind a result: whose they are, and what they have seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABEL_FREE = "features that no label has touched: --features own, or dinov2-small"


def feature_note(facts: Mapping[str, Any]) -> str:
    """Return a sentence or two on one space of features.

    Args:
        facts: Of its pretext result, or as much of them as is known before there is one.
    """
    return {"pretrained": _pretrained, "checkpoint": _checkpoint, "file": _file}.get(
        str(facts.get("kind")), _own
    )(facts)


def _own(facts: Mapping[str, Any]) -> str:
    return f"Features: {facts.get('backbone', 'a network')} trained on these images, without labels."


def _pretrained(facts: Mapping[str, Any]) -> str:
    said = f"Features: {facts['name']} ({facts['model']}"
    if facts.get("preprocessing"):
        said += f" at {facts['preprocessing']['size_px']} px"
    said += f", licence {facts['licence']}), trained with {facts['trained_with']}."
    if facts["trained_with"] == "labels of ImageNet":
        said += f" Clusters may owe something to ImageNet's classes; {LABEL_FREE}."
    return said


def _checkpoint(facts: Mapping[str, Any]) -> str:
    return (
        f"Features: {facts['backbone']} with the weights of {facts['source']} (licence {facts['licence']}); "
        "what they were trained with is not known here."
    )


def _file(facts: Mapping[str, Any]) -> str:
    return f"Features: embeddings of {facts['source']}, as they came; what made them is not known here."
