from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from rayscan.embeddings import text_digests
from rayscan.embeddings.text_digests import digests_of, find, first_repeated


def texts(rng: np.random.Generator, count: int, kinds: int) -> list[str | None]:
    """Texts that come several times, some of them empty or null."""
    names = [None, "", *(f"photo-{n}\u00e9/{n % 7}.jpg" for n in range(kinds))]
    return [names[n] for n in rng.integers(0, len(names), count)]


def digests(values: list[str | None]) -> text_digests.Digests:
    """In arrays of several lengths, one of them empty."""
    cuts = [0, len(values) // 3, len(values) // 3, len(values) // 2, len(values)]
    return digests_of(pa.array(values[a:b], pa.string()) for a, b in pairwise(cuts))


@pytest.mark.parametrize("bits", [128, 64, 4, 0])
def test_find_equals_a_dictionary(bits: int, monkeypatch: pytest.MonkeyPatch):
    """Also where upper halves collide, as with few bits they do all the time."""
    full = text_digests.hash_text

    def short(text: str) -> bytes:
        low, high = full(text)[:8], int.from_bytes(full(text)[8:], "little")
        return (high % 2 ** max(bits - 64, bits if bits < 64 else 0)).to_bytes(8, "little") + low

    if bits < 128:
        monkeypatch.setattr(text_digests, "hash_text", short)
    rng = np.random.default_rng(bits)
    among, wanted = texts(rng, 400, 300), texts(rng, 500, 600)
    first: dict[str, int] = {}
    for row, text in enumerate(among):
        if text:
            first.setdefault(text, row)
    expected = [first.get(text, -1) if text else -1 for text in wanted]
    assert find(digests(wanted), digests(among)).tolist() == expected
    assert max(expected) > 100
    assert expected.count(-1) > 100


def test_first_repeated_equals_a_set():
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 20, 50):
        for _ in range(20):
            values = texts(rng, count, 60)
            seen: dict[str, int] = {}
            expected = None
            for row, text in enumerate(values):
                if text and text in seen:
                    expected = (seen[text], row)
                    break
                if text:
                    seen[text] = row
            assert first_repeated(digests(values)) == expected


def test_digests_are_those_of_blake2b():
    got = digests(["a", "b", None, "c"])
    for row, text in [(0, "a"), (1, "b"), (3, "c")]:
        assert (
            got.words[row].astype("<u8").tobytes() == hashlib.blake2b(text.encode(), digest_size=16).digest()
        )
    assert got.is_there.tolist() == [True, True, False, True]


def test_texts_may_be_changed_before():
    got = digests_of([pa.array(["A", "b", None, "x"])], lambda text: None if text == "x" else text.lower())
    assert find(digests(["a", "b", "x", "A"]), got).tolist() == [0, 1, -1, -1]
