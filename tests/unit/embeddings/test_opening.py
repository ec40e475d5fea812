from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayscan.embeddings import open_vectors
from rayscan.embeddings.opening import natural
from rayscan.errors import ConfigError, DataError
from rayscan.storage import Place
from tests.unit.embeddings.files import fixed_lists, lists, matrix, npy, npz, parquet, stored


def written(place: Place, names: list[str]) -> dict[str, np.ndarray]:
    """One file of 3 rows per name; the rows by name."""
    rows = {name: matrix(rows=3, seed=seed) for seed, name in enumerate(names)}
    for name, x in rows.items():
        stored(place, name, npy(x))
    return rows


def test_patterns_and_folders_are_read_in_natural_order(place: Place):
    names = [f"part-{n}.npy" for n in (0, 1, 2, 9, 10, 11, 100)]
    rows = written(place, names[::-1])
    expected = np.concatenate([rows[name] for name in names])
    stored(place, "readme.txt", b"no vectors")
    for spec in (place.uri_of("part-*.npy"), place.uri, place.uri_of("part-{0,1,2,9,10,11,100}.npy")):
        np.testing.assert_array_equal(open_vectors(spec).read(0, 21), expected)


def test_lists_are_read_in_their_order(place: Place):
    rows = written(place, ["b.npy", "a.npy", "c1.npy", "c0.npy"])
    spec = f"{place.uri_of('b.npy')}, {place.uri_of('a.npy')},{place.uri_of('c*.npy')}"
    expected = np.concatenate([rows[n] for n in ("b.npy", "a.npy", "c0.npy", "c1.npy")])
    np.testing.assert_array_equal(open_vectors(spec).read(0, 12), expected)


def test_natural_order():
    names = ["x10", "x9", "x9b", "x", "9", "10", "a-2-10", "a-2-9", "a-10-1"]
    assert sorted(names, key=natural) == ["9", "10", "a-2-9", "a-2-10", "a-10-1", "x", "x9", "x9b", "x10"]


def test_a_name_that_looks_like_a_list_or_a_member(tmp_path: Path):
    written(Place(str(tmp_path)), ["a,b.npy", "c#d.npy"])
    assert open_vectors(f"{tmp_path}/a,b.npy").rows == 3
    assert open_vectors(f"{tmp_path}/c#d.npy").rows == 3


def test_a_member_may_be_named(place: Place):
    x, y = matrix(seed=1), matrix(dim=4, seed=2)
    uri = stored(place, "x.npz", npz(a=x, features=y))
    assert open_vectors(uri).dim == 4
    np.testing.assert_array_equal(open_vectors(f"{uri}#a").read(0, 300), x)
    uri = stored(place, "x.parquet", parquet({"id": range(300), "a": lists(x), "b": lists(y)}))
    np.testing.assert_array_equal(open_vectors(f"{uri}#b").read(0, 300), y)


def test_files_that_do_not_go_together_are_refused(tmp_path: Path):
    for name, x in {"a": matrix(), "b": matrix(dim=8), "c": matrix(dtype="float16")}.items():
        np.save(tmp_path / f"{name}.npy", x)
    with pytest.raises(DataError, match=r"7 wide, float32.*a\.npy\n.*8 wide, float32, in .*b\.npy"):
        open_vectors(f"{tmp_path}/[ab].npy")
    with pytest.raises(DataError, match=r"7 wide, float16, in .*c\.npy"):
        open_vectors(f"{tmp_path}/a.npy,{tmp_path}/c.npy")
    with pytest.raises(ConfigError, match=r"named twice(.*\n)*.*a\.npy"):
        open_vectors(f"{tmp_path}/a.npy,{tmp_path}/*.npy")


def test_what_is_not_there_is_refused(place: Place):
    stored(place, "a.npy", npy(matrix()))
    for spec in ("b.npy", "a-{0..2}.npy"):
        with pytest.raises(DataError, match="missing"):
            open_vectors(place.uri_of(spec))
    for spec in ("b*.npy", "none/*.npy"):
        with pytest.raises(DataError, match="no vectors here"):
            open_vectors(place.uri_of(spec))


def clip_folder(place: Place, numbers: list[int], width: str = "") -> tuple[np.ndarray, list[str]]:
    """A folder as clip-retrieval writes it, in the order of the numbers."""
    rows, names = [], []
    for number in numbers:
        x, paths = (
            matrix(rows=4, seed=number, dtype="float16"),
            [f"/photos/{number}-{n}.jpg" for n in range(4)],
        )
        stored(place, f"img_emb/img_emb_{number:{width}}.npy", npy(x))
        table = {"image_path": paths, "caption": ["a"] * 4, "key": [f"{number:03d}{n}" for n in range(4)]}
        stored(place, f"metadata/metadata_{number:{width}}.parquet", parquet(table))
        rows.append(x)
        names += paths
    return np.concatenate(rows).astype(np.float32), names


@pytest.mark.parametrize("width", ["", "03d"])
def test_folders_of_clip_retrieval(place: Place, width: str):
    x, names = clip_folder(place, [0, 1, 2, 9, 10, 11], width)
    stored(place, "text_emb/text_emb_0.npy", npy(matrix()))
    opened = open_vectors(place.uri)
    np.testing.assert_array_equal(opened.read(0, 24), x)
    assert pa.concat_arrays(list(opened.keys("source") or [])).to_pylist() == names
    assert pa.concat_arrays(list(opened.keys("key") or [])).to_pylist()[4:6] == ["0010", "0011"]
    assert opened.keys("id") is None


def test_folders_of_clip_retrieval_with_a_part_missing_are_refused(tmp_path: Path):
    clip_folder(Place(str(tmp_path)), [0, 1, 2])
    (tmp_path / "metadata" / "metadata_1.parquet").unlink()
    with pytest.raises(DataError, match=r"part 1 in img_emb alone; 3 of vectors, 2 of metadata"):
        open_vectors(str(tmp_path))
    (tmp_path / "metadata" / "metadata_1.parquet").write_bytes(parquet({"key": ["a"]}))
    with pytest.raises(DataError, match=r"differ in length\n.*4 rows.*\n.*1\n"):
        open_vectors(str(tmp_path))


def test_metadata_that_changes_is_refused(tmp_path: Path):
    clip_folder(Place(str(tmp_path)), [0])
    opened = open_vectors(str(tmp_path))
    (tmp_path / "metadata" / "metadata_0.parquet").write_bytes(parquet({"key": ["a"] * 3}))
    with pytest.raises(DataError, match=r"not as many keys as vectors\n +expected: 4\n +got: +3\n"):
        list(opened.keys("key") or [])


def test_folders_of_clip_retrieval_without_metadata(tmp_path: Path):
    x, _ = clip_folder(Place(str(tmp_path)), [0, 1])
    for path in (tmp_path / "metadata").iterdir():
        path.unlink()
    opened = open_vectors(str(tmp_path))
    np.testing.assert_array_equal(opened.read(0, 8), x)
    assert not opened.has_keys("source")


def test_keys_come_as_text_in_the_order_of_the_rows(place: Place):
    x = matrix(rows=5)
    for number, ids in enumerate([[7, 8, None, 10, 11], [1, 2, 3, 4, 5]]):
        table = {
            "id": pa.array(ids, pa.int32()),
            "url": pa.array([f"s3://b/{i}" for i in ids]).dictionary_encode(),
            "__key__": pa.array([str(i) for i in ids], pa.large_string()),
            "emb": fixed_lists(x),
        }
        stored(place, f"{number}.parquet", parquet(table, row_group_size=2))
    opened = open_vectors(place.uri)
    assert pa.concat_arrays(list(opened.keys("id") or [])).to_pylist() == [
        "7",
        "8",
        None,
        "10",
        "11",
        "1",
        "2",
        "3",
        "4",
        "5",
    ]
    assert pa.concat_arrays(list(opened.keys("source") or [])).to_pylist()[5] == "s3://b/1"
    assert pa.concat_arrays(list(opened.keys("key") or [])).to_pylist()[9] == "5"


def test_keys_that_only_some_files_have_are_none(tmp_path: Path):
    x = matrix(rows=5)
    (tmp_path / "0.parquet").write_bytes(parquet({"id": ["a"] * 5, "emb": lists(x)}))
    (tmp_path / "1.parquet").write_bytes(parquet({"emb": lists(x)}))
    assert open_vectors(str(tmp_path)).keys("id") is None
    assert open_vectors(f"{tmp_path}/0.parquet").has_keys("id")
