"""Comparing shards with their index: what changed is named, with shard and key."""

from __future__ import annotations

import pytest

from rayscan.data.doctor import describe, examine, tasks
from rayscan.data.listing import list_sources
from rayscan.data.shard_writer import Sample, write_samples
from rayscan.data.sources.tar import scan_tar
from rayscan.data.verification import expected_shards, verify_shard
from rayscan.recipes import by_name
from rayscan.stages import index
from tests.unit.data.conftest import encoded, make_tar, picture, samples, write_files


def expected(context, *uris):
    recipe = by_name("digits")
    step = index.plan(recipe, {}, context.sources)
    return list(expected_shards(index.run(recipe, {}, step, context)))


@pytest.fixture
def shards(tmp_path):
    write_files(tmp_path / "data", {f"s{n}.tar": make_tar(samples(4 * n, 4 * n + 4)) for n in range(2)})
    return tmp_path / "data"


def test_untouched_shards_have_no_findings(shards, context_for):
    for shard in expected(context_for(str(shards / "*.tar"))):
        assert verify_shard(shard) == []


def test_every_flipped_bit_of_a_shard_is_found(shards, context_for):
    first, second = expected(context_for(str(shards / "*.tar")))
    path = shards / "s0.tar"
    whole = path.read_bytes()
    offsets = first.rows["offset"].to_pylist()
    lengths = first.rows["length"].to_pylist()
    keys = first.rows["key"].to_pylist()
    for at in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[at] ^= 1 << (at % 8)
        path.write_bytes(changed)
        (finding,) = verify_shard(first)
        inside = [k for k, o, n in zip(keys, offsets, lengths, strict=True) if o <= at < o + n]
        assert finding.shard == str(path) and finding.key == (inside[0] if inside else "")
    assert verify_shard(second) == []


def test_cut_grown_and_missing_shards(shards, context_for):
    first, second = expected(context_for(str(shards / "*.tar")))
    whole = (shards / "s0.tar").read_bytes()
    last = first.rows.to_pylist()[-1]
    (shards / "s0.tar").write_bytes(whole[: last["offset"] + 3])
    size, cut = verify_shard(first)
    assert "indexed" in size.what and cut.key == last["key"] and "cut off" in cut.what
    (shards / "s0.tar").write_bytes(whole + b"\1")
    (grown,) = verify_shard(first)
    assert "bytes" in grown.what
    (shards / "s1.tar").unlink()
    assert [f.what for f in verify_shard(second)] == ["missing"]


def test_single_files_are_compared_by_their_checksum(tmp_path, context_for):
    write_files(tmp_path / "photos", {"a.png": encoded(picture(1)), "b.png": encoded(picture(2))})
    a, b = expected(context_for(str(tmp_path / "photos")))
    (tmp_path / "photos" / "a.png").write_bytes(encoded(picture(3)))
    assert {f.key for f in verify_shard(a)} - {""} == {"a.png"}
    assert verify_shard(b) == []


def test_our_own_shards_tell_a_flipped_bit_without_an_index(tmp_path):
    write_samples([Sample("a", encoded(picture(1), "JPEG"), "jpg", "a.jpg")], str(tmp_path), "s")
    path = tmp_path / "s-000000.tar"
    (row,) = scan_tar(str(path), max_pixels=10**6).table.to_pylist()
    assert row["status"] == "ok"
    data = bytearray(path.read_bytes())
    data[row["offset"] + row["length"] // 2] ^= 1  # a JPEG decoder takes this for another picture
    path.write_bytes(data)
    (row,) = scan_tar(str(path), max_pixels=10**6).table.to_pylist()
    assert row["status"] == "checksum"


def test_doctor_names_all_damage_at_once(tmp_path):
    whole = make_tar(samples(0, 4))
    write_files(
        tmp_path,
        {
            "a.tar": whole[:700],
            "b.tar": whole[:-10_000],
            "c.tar": make_tar([*samples(5, 7), ("x.png", b"?")]),
        },
    )
    write_files(tmp_path, {"d.tar": make_tar(samples(5, 6))})
    listing = list_sources(str(tmp_path / "*.tar"))
    lines, is_whole = describe(listing, [examine(task) for task in tasks(listing, 10**6)])
    text = "\n".join(lines)
    assert not is_whole and "2 damaged shards, 1 repeated keys" in text
    assert "a.tar" in text and "b.tar" in text and "'img005'" in text and "1 'format'" in text


def test_doctor_shows_hostile_names_escaped(tmp_path):
    write_files(tmp_path, {f"{n}.tar": make_tar([("\x1b[2J<b>.png", encoded(picture(1)))]) for n in "ab"})
    listing = list_sources(str(tmp_path / "*.tar"))
    lines, _ = describe(listing, [examine(task) for task in tasks(listing, 10**6)])
    assert not any("\x1b" in line for line in lines) and any("\\x1b[2J<b>" in line for line in lines)
