"""The class lists of the SCAN paper, and class folders in ImageNet's layout."""

from __future__ import annotations

import pytest

from rayscan.data.classes import imagenet_subset, wnid_of, wnids_of
from rayscan.errors import ConfigError
from tests.unit.data.conftest import shared


@pytest.mark.parametrize("count", [50, 100, 200])
def test_lists_are_those_of_the_paper(count):
    path = shared("imagenet_subsets") / f"imagenet_{count}.txt"
    assert list(imagenet_subset(count)) == path.read_text().split()


def test_lists_are_nested_and_whole():
    small, middle, large = (set(imagenet_subset(count)) for count in (50, 100, 200))
    assert (len(small), len(middle), len(large)) == (50, 100, 200)
    assert small < middle < large  # arXiv 2005.12320, section 3.4: subsets of growing difficulty
    with pytest.raises(ConfigError):
        imagenet_subset(1000)


def test_class_folders():
    assert wnid_of("train/n01440764/n01440764_18") == "n01440764"
    assert wnid_of("n01440764_18") == "n01440764"
    assert wnid_of("photos/cat/17") is None
    assert wnids_of(["a/n02084071/1", "a/n01440764/2", "a/n01440764/3"]) == ["n01440764", "n02084071"]
    assert wnids_of(["a/n02084071/1", "a/else/2"]) == []
