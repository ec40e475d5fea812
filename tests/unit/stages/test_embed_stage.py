"""Stage embed of a pretrained network: what becomes of a network that cannot be compiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo
import torch._inductor.config

from rayscan import cli, pipeline
from rayscan.engine import compiled_programs
from rayscan.engine.inference.choice import COMPILE_FROM_ROWS
from rayscan.run import Run
from tests.unit.data.conftest import encoded, write_files
from tests.unit.local_fleet import LocalFleet


def test_a_compilation_that_failed_is_said_and_the_features_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "Fleet", LocalFleet)
    monkeypatch.setenv(compiled_programs.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setitem(COMPILE_FROM_ROWS, "cpu", 1)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 52, 3), dtype=np.uint8)
    write_files(tmp_path / "photos", {f"{n}.png": encoded(one) for n, one in enumerate(pixels)})
    words = ["run", "custom", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    words += ["--num-clusters", "2", "--until", "embed", "--embed.size-px", "64", "--fleet.num-workers", "1"]
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert cli.main([*words, "--embed.engine", "torch", "--embed.precision", "fp32"]) == 0
    said = capsys.readouterr()
    assert (said.out + said.err).count("embed: torch.compile failed, plain torch computes instead") == 1
    facts = Run(str(tmp_path / "out")).artifact("embed").facts
    assert facts["rows"] == 6 and facts["nets"][0]["engine"] == "eager"
