"""The corruption benchmark can fail: it sees what a blind reader, a leak or a foreign script would do."""

from __future__ import annotations

import random

import pytest

from benchmarks import corruption
from benchmarks.damage import doors, hostile, page, tars
from benchmarks.damage.odd import odd_images
from rayscan.data import reader
from rayscan.data.sources import tar


@pytest.fixture
def here(tmp_path):
    return doors.Doors(tmp_path / "shards")


def verdict(here, kind, seed=0):
    files = dict(here.pristine)
    return here.judge(files, kind(random.Random(seed), files))


@pytest.mark.parametrize("kind", tars.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_damage_is_noticed(here, kind):
    assert not verdict(here, kind).complaint


def test_a_reader_without_checksums_is_caught(here, monkeypatch):
    monkeypatch.setattr(reader.zlib, "crc32", lambda data: 0)
    object.__setattr__(here.table, "crc32", here.table.crc32 * 0)
    assert verdict(here, tars.flip_in_an_image).is_silent_loss


def test_a_comparison_that_sees_nothing_is_caught(here, monkeypatch):
    monkeypatch.setattr(doors, "verify_shard", lambda expected: [])
    assert not verdict(here, tars.flip_in_an_image).is_detected


def test_an_index_that_believes_in_cut_tars_is_caught(here, monkeypatch):
    real = tar.members

    def believing(tape):
        try:
            yield from real(tape)
        except Exception:
            return

    monkeypatch.setattr(tar, "members", believing)
    assert verdict(here, tars.cut_between_members).is_silent_loss


def test_an_executed_payload_is_caught(tmp_path, monkeypatch):
    canary = tmp_path / "h" / "canary" / "OWNED"
    payload = hostile.payloads(canary)[0]
    assert corruption._attack(payload, tmp_path / "h" / "00", canary) == ("indexed", "")
    monkeypatch.setattr(corruption, "take_in", lambda *_: canary.touch() or [])
    assert corruption._attack(payload, tmp_path / "h" / "01", canary)[1]


def test_foreign_markup_in_a_page_is_caught(monkeypatch):
    bad = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>"]
    assert page.strangers(bad) == ""
    real = page.render
    monkeypatch.setattr(page, "render", lambda content: real(content) + content.notes[0])
    assert "script" in page.strangers(bad)


def test_there_is_as_much_as_is_said(tmp_path):
    assert len(odd_images()) == 40 and len({name for name, _, _ in odd_images()}) == 40
    assert len(hostile.payloads(tmp_path / "x")) >= 40
