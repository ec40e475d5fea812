"""The words of `--features`, and what they name."""

from __future__ import annotations

import pytest

from rayscan.config import EmbedConfig, Recipe, ScanLossConfig, SelfLabelConfig
from rayscan.errors import ConfigError
from rayscan.spaces import Space, parse_spaces


@pytest.mark.parametrize(
    ("words", "space"),
    [
        ("own", Space("own", "", "own")),
        ("lite0", Space("pretrained", "lite0", "lite0")),
        (
            "timm/vit_small_patch16_224.dino",
            Space("pretrained", "timm/vit_small_patch16_224.dino", "timm-vit_small_patch16_224.dino"),
        ),
        ("checkpoint:s3://bucket/moco v2.pth", Space("checkpoint", "s3://bucket/moco v2.pth", "checkpoint")),
        ("file:a/{000..009}.npy,b.npy", Space("file", "a/{000..009}.npy,b.npy", "file")),
    ],
)
def test_each_kind_is_known_by_its_words(words: str, space: Space) -> None:
    assert parse_spaces((words,)) == (space,)
    assert space.spec == words


def test_several_spaces_have_names_of_their_own() -> None:
    spaces = parse_spaces(("file:a.npy", "own", "file:b.npy", "lite0"))
    assert [space.name for space in spaces] == ["file", "own", "file-2", "lite0"]
    assert [space.has_net for space in spaces] == [False, True, False, True]


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ((), "needs features"),
        (("",), "an empty word"),
        (("file:",), "file:PATH"),
        (("vectors:a.npy",), "file:PATH"),
        (("lite0", "lite0"), "twice"),
        (("file:a.npy", "file:a.npy"), "twice"),
    ],
)
def test_other_words_are_refused(features: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_spaces(features)


def recipe(*features: str, **settings: object) -> Recipe:
    return Recipe(name="r", num_clusters=2, features=features, **settings)  # type: ignore[arg-type]


HEADS = ScanLossConfig(inputs="embeddings")


@pytest.mark.parametrize("features", [("file:a.npy",), ("own", "lite0")])
def test_training_on_images_needs_a_single_network(features: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"scan\.inputs"):
        recipe(*features)
    with pytest.raises(ConfigError, match=r"selflabel\.inputs"):
        recipe(*features, scan=HEADS)
    recipe(*features, scan=HEADS, selflabel=SelfLabelConfig(epochs=0))
    recipe(*features, scan=HEADS, selflabel=SelfLabelConfig(inputs="embeddings"))
    recipe(*features, method="kmeans")
    recipe("lite0")


def test_a_projection_and_views_need_a_network_of_that_kind() -> None:
    with pytest.raises(ConfigError, match=r"embed\.space"):
        recipe("lite0", embed=EmbedConfig(space="projection"))
    recipe("checkpoint:a.pth", embed=EmbedConfig(space="projection"))
    with pytest.raises(ConfigError, match=r"embed\.num_views"):
        recipe("own", "lite0", embed=EmbedConfig(num_views=2), method="kmeans")
    recipe("lite0", embed=EmbedConfig(num_views=2))
