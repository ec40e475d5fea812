"""What self-labelling says where few images teach: the number, the threshold, and the setting that helps."""

from __future__ import annotations

from rayscan.config import SelfLabelConfig
from rayscan.stages.selflabel import about_few


def test_few_are_said_with_what_helps() -> None:
    found = about_few(SelfLabelConfig(threshold=0.99), 8_172, 50_000)
    assert found.startswith("8,172 of 50,000 images are confident at 0.99; ")
    assert "--selflabel.threshold-kind per_class" in found


def test_nothing_is_said_where_it_would_not_help() -> None:
    assert not about_few(SelfLabelConfig(threshold_kind="per_class"), 8_172, 50_000)
    assert not about_few(SelfLabelConfig(), 10_000, 50_000)
    assert about_few(SelfLabelConfig(), 9_999, 50_000)
