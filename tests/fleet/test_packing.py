"""Packing and examining on a real local Ray: equal to the same in one process."""

from __future__ import annotations

from pathlib import Path

from rayscan.config import FleetConfig
from rayscan.data import doctor
from rayscan.data.listing import list_sources
from rayscan.data.packing import write_shards
from rayscan.fleet.connect import Fleet
from rayscan.storage import Place
from tests.unit.data.conftest import encoded, picture, write_files


def test_shards_of_the_fleet_are_those_of_one_process(tmp_path: Path) -> None:
    write_files(tmp_path / "in", {f"{n:02d}.jpg": encoded(picture(n, 40, 60), "JPEG") for n in range(24)})
    options = {"shard_bytes": 1500, "resize_px": 20}
    here = write_shards(str(tmp_path / "in"), str(tmp_path / "here"), **options)
    with Fleet(FleetConfig(), Place(str(tmp_path))) as fleet:
        there = write_shards(str(tmp_path / "in"), str(tmp_path / "there"), apply=fleet.map, **options)
        listing = list_sources(str(tmp_path / "there" / "*.tar"))
        lines, is_whole = doctor.describe(listing, fleet.map(doctor.examine, doctor.tasks(listing, 10**6)))
    assert len(here.shards) == len(there.shards) > 2
    for mine, theirs in zip(here.shards, there.shards, strict=True):
        assert Path(mine).read_bytes() == Path(theirs).read_bytes()
    assert is_whole and any(line.startswith("images: 24, 24 of them usable") for line in lines)
