"""Networks of finished results: built as they were trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import SimCLRConfig
from rayscan.engine.tensors import pack
from rayscan.errors import RayscanError
from rayscan.objectives.pretexts import build_projected_net
from rayscan.storage import Place
from rayscan.training.models import WEIGHTS, load_backbone, load_pretext_net

TRANSFORMER = SimCLRConfig(backbone="timm/test_vit", projection_dim=8)
"""timm makes it for 160 px."""


def pretext(place: Place, facts: dict[str, int]) -> tuple[torch.nn.Module, Artifact]:
    torch.manual_seed(0)
    net = build_projected_net(TRANSFORMER, facts.get("size_px"))
    draft = Draft(place, Step("pretext", 1, {**facts}))
    return net.eval(), draft.commit({WEIGHTS: draft.write(WEIGHTS, pack(net.state_dict()))}, facts=facts)


@pytest.mark.parametrize(("facts", "side"), [({"size_px": 64}, 64), ({}, 160)])
def test_a_transformer_is_loaded_at_the_side_it_was_trained_at(
    tmp_path: Path, facts: dict[str, int], side: int
) -> None:
    """A result from before sides were kept is one of timm's own side."""
    net, trained = pretext(Place(str(tmp_path)), facts)
    x = torch.rand(2, 3, side, side)
    with torch.no_grad():
        assert torch.equal(load_pretext_net(TRANSFORMER, trained).eval()(x), net(x))
        assert torch.equal(load_backbone(TRANSFORMER, trained).eval()(x), net.backbone(x))


def test_weights_of_another_side_are_refused(tmp_path: Path) -> None:
    _, trained = pretext(Place(str(tmp_path)), {"size_px": 64})
    trained.facts["size_px"] = 96
    with pytest.raises(RayscanError, match="pos_embed"):
        load_backbone(TRANSFORMER, trained)
