"""What our trainer leaves out of Ray's, and that nothing else is lost with it."""

from __future__ import annotations

from pathlib import Path

from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from rayscan.fleet.train import PlainTrainer


def callbacks_of(kind: type[TorchTrainer], where: Path) -> list[str]:
    """Names of what Ray runs beside a training."""
    trainer = kind(
        print, scaling_config=ScalingConfig(num_workers=1), run_config=RunConfig(storage_path=str(where))
    )
    return [type(one).__name__ for one in trainer._create_default_callbacks()]


def test_nothing_but_the_datasets_is_left_out(tmp_path: Path) -> None:
    """Ray would start a process for them, and no worker of ours reads one."""
    usual, plain = callbacks_of(TorchTrainer, tmp_path), callbacks_of(PlainTrainer, tmp_path)
    assert usual.count("DatasetsCallback") == 1
    usual.remove("DatasetsCallback")
    assert plain == usual
