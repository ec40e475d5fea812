"""A checkpoint as the result of the pretext stage: read, fitted, recorded, refused where it does not fit."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import EmbedConfig, PretextConfig, Recipe, SimCLRConfig
from rayscan.engine.tensors import unpack
from rayscan.errors import ArtifactError, ConfigError
from rayscan.nets.catalog import build_backbone
from rayscan.nets.heads import ProjectionHead
from rayscan.run import record
from rayscan.storage import Place
from rayscan.training import checkpoint_space
from rayscan.training.models import feature_net
from rayscan.training.pictures import preprocessing_in
from rayscan.training.spaces import require_spaces

SETTINGS = SimCLRConfig(backbone="resnet10_w16", stem="cifar", checkpoint_license="CC BY-NC 4.0")


class Quiet:
    """Progress that nobody sees."""

    def start(self, *_: Any) -> None:
        """Nothing."""

    def finish(self, *_: Any) -> None:
        """Nothing."""


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return build_backbone("resnet10_w16", "cifar").state_dict()


def write(path: Path, state: dict[str, torch.Tensor]) -> Recipe:
    buffer = io.BytesIO()
    torch.save({"state_dict": {f"module.encoder_q.{k}": v for k, v in state.items()}}, buffer)
    path.write_bytes(buffer.getvalue())
    return recipe_of(path)


def recipe_of(path: Path, settings: PretextConfig = SETTINGS) -> Recipe:
    return Recipe(name="r", pretext=settings, features=(f"checkpoint:{path}",))


def config(recipe: Recipe) -> dict[str, Any]:
    return checkpoint_space.config(recipe, recipe.spaces[0])


def take_over(recipe: Recipe, out: Path, space: str = "backbone") -> Artifact:
    step = Step("pretext", 1, config(recipe))
    context: Any = SimpleNamespace(progress=Quiet())
    recipe = replace(recipe, embed=EmbedConfig(space=space))  # type: ignore[arg-type]
    return checkpoint_space.take(recipe, recipe.spaces[0], Draft(Place(str(out)), step), context)


def test_features_are_those_of_the_checkpoint_and_its_origin_is_recorded(tmp_path: Path) -> None:
    state = weights()
    settings = write(tmp_path / "theirs.pth", state)
    artifact = take_over(settings, tmp_path / "run")
    net, dim = feature_net(settings, artifact)
    theirs = build_backbone("resnet10_w16", "cifar")
    theirs.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32)
    assert dim == 128
    assert torch.equal(net.eval()(x), theirs.eval()(x))
    facts = artifact.read_json("pretext.json")
    assert facts["source"] == str(tmp_path / "theirs.pth")
    assert facts["licence"] == "CC BY-NC 4.0"
    assert facts["sha256"] == hashlib.sha256((tmp_path / "theirs.pth").read_bytes()).hexdigest()
    assert facts["layout"] == "moco"


def test_the_bytes_decide_and_not_the_name(tmp_path: Path) -> None:
    one = write(tmp_path / "one.pth", weights())
    (tmp_path / "two.pth").write_bytes((tmp_path / "one.pth").read_bytes())
    two = recipe_of(tmp_path / "two.pth")
    assert config(one) == config(two)
    state = weights()
    state["conv1.weight"] += 1
    assert config(write(tmp_path / "two.pth", state)) != config(one)


def test_a_mismatch_names_missing_and_unexpected_keys(tmp_path: Path) -> None:
    state = weights()
    state["layer4.0.convX.weight"] = state.pop("layer4.0.conv2.weight")
    with pytest.raises(ArtifactError) as caught:
        take_over(write(tmp_path / "theirs.pth", state), tmp_path / "run")
    assert "missing layer4.0.conv2.weight" in caught.value.text
    assert "unexpected layer4.0.convX.weight" in caught.value.text
    assert "layout moco" in caught.value.text


def test_another_stem_is_named_by_its_shape(tmp_path: Path) -> None:
    write(tmp_path / "theirs.pth", weights())
    other = recipe_of(tmp_path / "theirs.pth", replace(SETTINGS, stem="imagenet"))
    with pytest.raises(ArtifactError, match=r"conv1\.weight \(16, 3, 3, 3\) for \(16, 3, 7, 7\)"):
        take_over(other, tmp_path / "run")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such checkpoint"):
        config(recipe_of(tmp_path / "none.pth"))
    with pytest.raises(ConfigError, match="no such checkpoint"):
        require_spaces(recipe_of(tmp_path / "none.pth"))
    require_spaces(Recipe(name="r"))
    require_spaces(write(tmp_path / "there.pth", weights()))


def test_a_projection_of_our_kind_comes_along(tmp_path: Path) -> None:
    """As in MoCo v2 and SimCLR: neighbors can then be mined after it."""
    torch.manual_seed(4)
    head = ProjectionHead(128, 128, 16)
    state = weights() | {f"fc.{k}": v for k, v in head.state_dict().items()}
    write(tmp_path / "theirs.pth", state)
    given = recipe_of(tmp_path / "theirs.pth", replace(SETTINGS, projection_dim=16))
    artifact = take_over(given, tmp_path / "run", space="projection")
    recipe = replace(given, embed=EmbedConfig(space="projection"))
    net, dim = feature_net(recipe, artifact)
    theirs = build_backbone("resnet10_w16", "cifar")
    theirs.load_state_dict(weights())
    x = torch.randn(2, 3, 32, 32)
    assert dim == 16
    assert torch.equal(net.eval()(x), head(theirs.eval()(x)))
    assert artifact.facts["has_projection"]
    narrow = recipe_of(tmp_path / "theirs.pth", replace(SETTINGS, projection_dim=8))
    with pytest.raises(ConfigError, match="no projection that fits"):
        take_over(narrow, tmp_path / "other", space="projection")
    assert not take_over(narrow, tmp_path / "other").facts["has_projection"]


def test_a_run_is_named_by_its_directory(tmp_path: Path) -> None:
    """Its pretext's weights are what another run starts from."""
    first = take_over(write(tmp_path / "theirs.pth", weights()), tmp_path / "run")
    recipe = Recipe(name="r")
    stages = {"pretext": {"directory": first.place.uri.rpartition("/")[2], "seconds": 1.0, "reused": False}}
    record(Place(str(tmp_path / "run")), recipe, {}, stages)
    second = take_over(recipe_of(tmp_path / "run"), tmp_path / "second")
    assert second.facts["layout"] == "rayscan"
    ours, theirs = (unpack(a.read("backbone.safetensors")) for a in (second, first))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], v) for k, v in theirs.items())


def test_a_run_says_of_which_network_its_weights_are(tmp_path: Path) -> None:
    """Before anything is done, with the flags that it takes."""
    first = take_over(write(tmp_path / "theirs.pth", weights()), tmp_path / "run")
    trained = Recipe(name="r", pretext=SETTINGS, images=replace(Recipe(name="r").images, size_px=48))
    stages = {"pretext": {"directory": first.place.uri.rpartition("/")[2], "seconds": 1.0, "reused": False}}
    record(Place(str(tmp_path / "run")), trained, {}, stages)
    with pytest.raises(ConfigError, match="another network") as caught:
        require_spaces(recipe_of(tmp_path / "run", SimCLRConfig(backbone="resnet50")))
    assert "--pretext.backbone resnet10_w16 --pretext.stem cifar --images.size-px 48" in str(caught.value)
    require_spaces(recipe_of(tmp_path / "run"))


def test_a_file_of_timm_gives_its_features_and_timms_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit").eval()
    data = save(theirs.state_dict())
    (tmp_path / "mine.safetensors").write_bytes(data)
    recipe = recipe_of(tmp_path / "mine.safetensors", replace(SETTINGS, backbone="timm/test_vit"))
    artifact = take_over(recipe, tmp_path / "run")
    net, _ = feature_net(recipe, artifact, trains=False)
    x = torch.randn(2, 3, 160, 160)
    assert torch.equal(net.eval()(x), theirs.forward_head(theirs.forward_features(x), pre_logits=True))
    pictures = preprocessing_in(artifact)
    assert pictures is not None
    assert (pictures.size_px, pictures.mean) == (160, (0.5,) * 3)
    assert artifact.facts["sha256"] == hashlib.sha256(data).hexdigest()


def test_weights_of_half_precision_become_single(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in weights().items()}
    recipe = write(tmp_path / "half.pth", state)
    net, _ = feature_net(recipe, take_over(recipe, tmp_path / "run"))
    theirs = build_backbone("resnet10_w16", "cifar")
    theirs.load_state_dict(weights())
    x = torch.randn(2, 3, 32, 32)
    assert net.eval()(x).dtype == torch.float32
    torch.testing.assert_close(net(x), theirs.eval()(x), rtol=1e-2, atol=1e-2)  # weights of 11 bits


@pytest.mark.parametrize(
    ("backbone", "size_px", "said"),
    [
        ("timm/test_resnet", None, "does not fit"),
        ("timm/test_vit", 100, "multiple of 16 px"),
        ("timm/test_vot", None, "no such model"),
        ("timm/gemma4_vit_570m_enc", None, r"no single feature(?s:.)*\[1, 256, 1152\]"),
        ("resnet49", None, "unknown backbone"),
    ],
)
def test_the_wrong_network_and_the_wrong_size_are_refused(
    tmp_path: Path, backbone: str, size_px: int | None, said: str
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(save(timm.create_model("test_vit").state_dict()))
    recipe = recipe_of(tmp_path / "mine.safetensors", replace(SETTINGS, backbone=backbone))
    recipe = replace(recipe, embed=EmbedConfig(size_px=size_px))
    context: Any = SimpleNamespace(progress=Quiet())
    with pytest.raises((ArtifactError, ConfigError), match=said):
        checkpoint_space.take(
            recipe, recipe.spaces[0], Draft(Place(str(tmp_path)), Step("pretext", 1, {})), context
        )
