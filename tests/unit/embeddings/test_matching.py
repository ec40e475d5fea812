from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rayscan.embeddings import Vectors, match_rows, open_vectors, source_folders
from rayscan.errors import ConfigError, DataError
from rayscan.storage import Place
from tests.unit.embeddings.files import index, lists, matrix, npy, parquet, stored


def vectors(place: Place, name: str = "x", **columns: Sequence[Any]) -> Vectors:
    """Vectors with columns of keys beside."""
    count = len(next(iter(columns.values())))
    return open_vectors(
        stored(place, f"{name}.parquet", parquet({"emb": lists(matrix(rows=count)), **columns}, 10))
    )


def by_dictionary(theirs: Sequence[str | None], ours: Sequence[str | None]) -> list[int]:
    """The slow twin."""
    place = {text: row for row, text in enumerate(theirs) if text}
    return [place.get(text, -1) if text else -1 for text in ours]


def test_by_order(tmp_path: Path):
    place = Place(str(tmp_path))
    images = index(place, rows=6, bad=[1, 4])
    whole = open_vectors(stored(place, "all.npy", npy(matrix(rows=6))))
    usable = open_vectors(stored(place, "usable.npy", npy(matrix(rows=4))))
    assert match_rows(whole, images).rows.tolist() == [0, 1, 2, 3, 4, 5]
    match = match_rows(usable, images, "order")
    assert match.rows.tolist() == [0, -1, 1, 2, -1, 3]
    assert (match.by, match.unused, match.missing) == ("order", 0, 2)
    other = open_vectors(stored(place, "other.npy", npy(matrix(rows=5))))
    with pytest.raises(
        DataError, match=r"6 images of the index, or 4 without those in quar.*\n +got: +5 vectors"
    ):
        match_rows(other, images)


@pytest.mark.parametrize("kind", ["id", "source", "key"])
def test_by_key_equals_a_dictionary(place: Place, kind: str, monkeypatch: pytest.MonkeyPatch):
    """In any order, some on one side only."""
    rng = np.random.default_rng(3)
    names = [f"/d/{n}-\u00fc.jpg" for n in range(400)]
    ours, theirs = rng.permutation(names)[:300].tolist(), rng.permutation(names)[:350].tolist()
    images = index(place, **{f"{kind}s": ours})
    found = match_rows(vectors(place, **{kind: theirs}), images, kind)  # type: ignore[arg-type]
    expected = by_dictionary(theirs, ours)
    assert found.rows.tolist() == expected
    assert found.by == kind
    assert (found.missing, found.unused) == (expected.count(-1), 350 - (300 - expected.count(-1)))
    assert 0 < found.missing < 100
    told = f"{300 - found.missing} images have a vector by {kind}; {found.missing} have none; {found.unused} "
    assert found.told().startswith(told)


def test_the_first_column_that_matches_is_taken(tmp_path: Path):
    place = Place(str(tmp_path))
    ids, sources, keys = ([f"{kind}{n}" for n in range(10)] for kind in ("i", "/p/s", "k"))
    images = index(place, ids=ids, sources=sources, keys=keys)
    turned = slice(None, None, -1)
    strange = [f"strange{n}" for n in range(10)]
    for columns, by in [
        ({"id": ids, "source": sources, "key": keys}, "id"),
        ({"id": strange, "path": sources, "key": keys}, "source"),
        ({"id": ["same"] * 10, "url": strange, "key": keys}, "key"),
        ({"key": keys}, "key"),
        ({"image_path": keys}, "key"),  # clip-retrieval over tar shards
        ({"id": ids[:5] + strange[:5]}, "id"),  # half of them
    ]:
        found = match_rows(vectors(place, **{name: texts[turned] for name, texts in columns.items()}), images)
        assert found.by == by
        assert found.rows[0] == 9
    for columns in ({"id": strange, "source": strange, "key": strange}, {"id": ids[:4] + strange[:6]}):
        found = match_rows(vectors(place, **columns), images)
        assert found.by == "order"
        assert found.rows.tolist() == list(range(10))


def test_integer_ids_are_text(tmp_path: Path):
    place = Place(str(tmp_path))
    images = index(place, ids=["7", "8", "9", None])
    found = match_rows(vectors(place, id=[9, 8, 7, None]), images, "id")
    assert found.rows.tolist() == [2, 1, 0, -1]


SOURCES = [f"/data/photos/{folder}/{n}.jpg" for folder in ("a", "b", "c/d") for n in range(20)]


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("/data/photos/", "by source"),
        ("", "names standing for /data/photos/"),
        ("./", "names standing for /data/photos/"),
        ("photos/", "names standing for /data/"),
        ("/mnt/elsewhere/", "/mnt/elsewhere/ standing for /data/photos/"),
        ("s3://bucket/set/photos/", "s3://bucket/set/ standing for /data/"),
        ("file:///data/photos/", "by source"),
    ],
)
def test_sources_may_be_named_from_another_folder(tmp_path: Path, folder: str, told: str):
    place = Place(str(tmp_path))
    images = index(place, sources=SOURCES)
    order = np.random.default_rng(0).permutation(len(SOURCES))[:50]
    theirs = [folder + SOURCES[n].removeprefix("/data/photos/") for n in order]
    query = "?region=x" if "s3" in folder else ""
    found = match_rows(vectors(place, source=[*(name + query for name in theirs), "/other/0.jpg"]), images)
    assert found.by == "source"
    assert told in found.told()
    expected = np.full(len(SOURCES), -1)
    expected[order] = np.arange(50)
    assert found.rows.tolist() == expected.tolist()
    assert found.unused == 1


def test_vectors_outside_the_folder_belong_to_no_image(tmp_path: Path):
    """Though what follows as many letters is the same."""
    place = Place(str(tmp_path))
    images = index(place, sources=SOURCES)
    theirs = [source.replace("/data/", "/mnt1/") for source in SOURCES] + ["/mnt2/photos/a/0.jpg"]
    found = match_rows(vectors(place, source=theirs), images)
    assert found.rows.tolist() == list(range(len(SOURCES)))
    assert found.unused == 1


def test_sources_of_shards_are_members(tmp_path: Path):
    place = Place(str(tmp_path))
    images = index(place, sources=[f"s3://b/t/shard-{n % 3}.tar#img{n}.png" for n in range(9)])
    theirs = [f"/local/shard-{n % 3}.tar#img{n}.png" for n in reversed(range(9))]
    assert match_rows(vectors(place, source=theirs), images).rows.tolist() == list(range(9))[::-1]


def test_bare_names_match_if_each_comes_once(tmp_path: Path):
    place = Place(str(tmp_path))
    sources = [f"/d/{n % 3}/img{n}.jpg" for n in range(9)]
    names = [f"img{n}.jpg" for n in range(9)]
    found = match_rows(vectors(place, source=names[::-1]), index(place, sources=sources))
    assert found.rows.tolist() == list(range(9))[::-1]
    assert found.note == "by the names of the files"
    twice = index(place.child("twice"), sources=[*sources, "/d/x/img3.jpg"])
    with pytest.raises(DataError, match=r"two images have the same source(.*\n)*.*gids 3 and 9"):
        match_rows(vectors(place, source=names), twice)


def test_sources_that_fit_in_two_ways_are_refused(tmp_path: Path):
    """Half of the vectors come from one folder, half from another; each could be meant."""
    place = Place(str(tmp_path))
    images = index(
        place, sources=[*(f"/d/a/{n}.jpg" for n in range(10)), *(f"/d/b/{n}.jpg" for n in range(10))]
    )
    theirs = [f"/elsewhere/{n}.jpg" for n in range(10)]
    assert (
        source_folders.replaced(theirs, [pa.array([f"/d/{f}/{n}.jpg" for f in "ab" for n in range(10)])])
        is None
    )
    with pytest.raises(DataError, match="less than half"):
        match_rows(vectors(place, source=theirs), images, "source")
    mixed = [*(f"/x/a{n}.jpg" for n in range(10)), *(f"/y/b{n}.jpg" for n in range(10))]
    same = index(place.child("b"), sources=[f"/d/{f}{n}.jpg" for f in "ab" for n in range(10)])
    with pytest.raises(DataError, match=r"/d/a0.jpg(.*\n)*.*/x/a0.jpg"):
        match_rows(vectors(place, source=mixed), same, "source")


def test_sampled_sources_are_spread():
    """Over arrays of any length."""
    names = [f"/d/{n}" for n in range(1000)]
    arrays = [pa.array(names[a:b]) for a, b in [(0, 1), (1, 1), (1, 400), (400, 403), (403, 1000)]]
    assert source_folders.sample(arrays, 1000) == names[::4]
    assert source_folders.sample([pa.array(["/a", None])], 2) == ["/a"]


def test_what_cannot_be_matched_is_refused(tmp_path: Path):
    place = Place(str(tmp_path))
    ids = [f"i{n}" for n in range(10)]
    images = index(place, ids=ids)
    with pytest.raises(ConfigError, match=r"no column for id(.*\n)*.*got: +key\n"):
        match_rows(vectors(place, key=ids), images, "id")
    with pytest.raises(ConfigError, match=r"no column for source(.*\n)*.*got: +none\n"):
        match_rows(open_vectors(stored(place, "y.npy", npy(matrix(rows=10)))), images, "source")
    with pytest.raises(DataError, match=r"less than half.*\n.*'i0', 'i1', 'i2'\n.*'x0', 'x1', 'x2'"):
        match_rows(vectors(place, id=[f"x{n}" for n in range(10)]), images, "id")
    for by in ("id", None):
        with pytest.raises(DataError, match=r"two vectors have the same id(.*\n)*.*'i3' in rows 3 and 5\n"):
            match_rows(vectors(place, id=[*ids[:5], "i3", *ids[5:], "i3"]), images, by)  # type: ignore[arg-type]
    again = index(place.child("again"), keys=["k1", "k2", "k1"], num_eval=1)
    with pytest.raises(DataError, match=r"share a vector(.*\n)*.*'k1' and 'k1'\n.*gids 0 and 2"):
        match_rows(vectors(place, key=["k2", "k1"]), again, "key")
