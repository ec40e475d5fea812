from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import ImagesConfig
from rayscan.data.table import ImageTable
from rayscan.embeddings import assemble, import_part, match_rows, open_vectors, parts_of
from rayscan.embeddings.file_parts import FilePart
from rayscan.errors import DataError
from rayscan.storage import Place
from rayscan.vectors.parts import EmbeddingRows
from tests.unit.embeddings.files import fixed_lists, index, matrix, npy, npz_compressed, parquet, stored


def imported(
    place: Place,
    spec: str,
    images: Artifact,
    *,
    dtype: str = "float32",
    most: float = 0.001,
    on_bad: str = "skip",
    rows_per_part: int = 40,
) -> Artifact:
    """All the way from files to an embed artifact, as the stage goes."""
    vectors, table = open_vectors(spec), ImageTable.from_artifact(images)
    draft = Draft(place, Step("embed", 1, {"spec": spec, "dtype": dtype, "parts": rows_per_part}))
    rows = match_rows(vectors, images).rows
    parts = parts_of(vectors, rows, table.gids(), draft, dtype=dtype, rows_per_part=rows_per_part)
    for part in parts:
        import_part(pickle.loads(pickle.dumps(part)))
    settings = ImagesConfig(max_bad_fraction=most, on_bad=on_bad)  # type: ignore[arg-type]
    files, facts = assemble(draft, parts, images, table.is_eval, settings)
    return draft.commit(files, facts=facts)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_an_import_of_embeddings_gives_the_same_bits(place: Place, dtype: str):
    """Stage embed wrote them; whatever the format they are handed on in."""
    raw = torch.from_numpy(matrix(rows=170, dim=48))
    unit = torch.nn.functional.normalize(raw, dim=1).numpy().astype(dtype)
    images = index(place.child("index"), rows=170, num_eval=30)
    for name, data in {
        "x.npy": npy(unit),
        "x.npz": npz_compressed(features=unit),
        "x.parquet": parquet({"emb": fixed_lists(unit)}),
    }.items():
        spec = stored(place, name, data)
        rows = EmbeddingRows(imported(place, spec, images, dtype=dtype, rows_per_part=100))
        assert rows.is_half == (dtype == "float16")
        assert (rows.train_rows, rows.dim) == (140, 48)
        np.testing.assert_array_equal(rows.gids, np.arange(170))
        got = np.concatenate([rows.artifact.read_array(f"part-{n:05d}.npy") for n in range(2)])
        assert got.dtype == dtype
        assert got.tobytes() == unit.tobytes()


def test_again_is_the_same(tmp_path: Path):
    """What was imported once is imported again without a change, whatever it was before."""
    place = Place(str(tmp_path))
    images = index(place.child("index"), rows=100)
    spec = stored(place, "x.npy", npy(matrix(rows=100, dim=31) * 50))
    first = imported(place, spec, images, rows_per_part=100)
    again = imported(place, first.uri_of("part-00000.npy"), images, rows_per_part=100)
    assert again.read("part-00000.npy") == first.read("part-00000.npy")
    assert first.read_array("part-00000.npy").tobytes() != matrix(rows=100, dim=31).tobytes()


def test_results_do_not_depend_on_parts_and_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = Place(str(tmp_path))
    images = index(place.child("index"), rows=100)
    spec = stored(place, "x.npy", npy(matrix(rows=100, dim=31) * 50))
    whole = EmbeddingRows(imported(place, spec, images, rows_per_part=100)).read(0, 100)
    monkeypatch.setitem(import_part.__globals__, "PIECE_BYTES", 31 * 4 * 3)
    for size in (13, 99):
        some = EmbeddingRows(imported(place, spec, images, rows_per_part=size)).read(0, 100)
        np.testing.assert_array_equal(some, whole)


def test_images_without_a_usable_vector_are_left_out_by_name(place: Place):
    """Missing, not finite, all zeros; in the first part, in several, and all of a part."""
    x = matrix(rows=100, dim=5)
    x[3, 2], x[50, 0], x[51] = np.nan, np.inf, 0
    x[80:90] = 0  # the ninth part
    ids = [f"image {n}" for n in range(110)]
    images = index(place.child("index"), ids=ids, num_eval=20, bad=[7, 8])
    order = np.random.default_rng(0).permutation(100)
    table = {"id": [ids[n] for n in order], "emb": fixed_lists(x[order])}
    artifact = imported(place, stored(place, "x.parquet", parquet(table)), images, most=0.3, rows_per_part=10)
    rows = EmbeddingRows(artifact)
    expected_bad = {
        3: "not finite",
        50: "not finite",
        51: "all zeros",
        **dict.fromkeys(range(80, 90), "all zeros"),
    }
    expected_bad |= dict.fromkeys(range(100, 110), "no vector")
    good = [gid for gid in range(110) if gid not in expected_bad and gid not in (7, 8)]
    assert rows.gids.tolist() == good
    assert (artifact.facts["rows"], rows.train_rows) == (len(good), sum(gid < 90 for gid in good))
    lengths = np.linalg.norm(x[good].astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(rows.read(0, len(good)), x[good] / lengths, rtol=1e-6)
    quarantine = artifact.read_table("quarantine.parquet").to_pylist()
    assert {row["gid"]: row["reason"] for row in quarantine} == expected_bad
    assert all(row["id"] == ids[row["gid"]] and row["key"] == f"key{row['gid']}" for row in quarantine)
    assert artifact.facts["quarantined"] == len(expected_bad) == 23


def test_a_part_may_have_no_usable_vector_at_all(place: Place):
    """Also the first, which readers ask for the precision."""
    x = matrix(rows=30, dim=5, dtype="float16")
    x[:10] = 0
    images = index(place.child("index"), rows=30)
    artifact = imported(
        place, stored(place, "x.npy", npy(x)), images, dtype="float16", most=0.5, rows_per_part=10
    )
    rows = EmbeddingRows(artifact)
    assert rows.is_half
    assert rows.gids.tolist() == list(range(10, 30))
    assert artifact.read_table("parts.parquet")["part"].to_pylist() == [1, 2]
    assert rows.read(0, 20).shape == (20, 5)


def test_too_many_bad_rows_are_refused(tmp_path: Path):
    place = Place(str(tmp_path))
    images = index(place.child("index"), ids=[f"i{n}" for n in range(100)])
    x = matrix(rows=100, dim=5)
    x[70] = np.nan
    one = stored(place, "one.npy", npy(x))
    with pytest.raises(DataError, match=r"expected: none\n +got: +1: 1 not finite"):
        imported(place, one, images, most=1, on_bad="stop")
    assert imported(place, one, images, most=0).facts["quarantined"] == 1
    x[71:75] = 0
    spec = stored(place, "five.npy", npy(x))
    got = r"at most 4\.0000% of 100, and not all\n +got: +5: 4 all zeros, 1 not finite\n"
    with pytest.raises(DataError, match=got + r".*i70 \(gid 70\): not finite; i71"):
        imported(place, spec, images, most=0.04)
    assert imported(place, spec, images, most=0.05).facts["rows"] == 95
    with pytest.raises(DataError, match="100 not finite"):
        imported(place, stored(place, "all.npy", npy(x * np.nan)), images, most=1)


def test_a_part_tells_what_it_left_out(tmp_path: Path):
    place = Place(str(tmp_path))
    x = np.ones((6, 2), np.float16)
    x[1], x[2], x[3] = np.nan, 0, np.inf
    vectors = open_vectors(stored(place, "x.npy", npy(x)))
    draft = Draft(place, Step("embed", 1, {}))
    part = FilePart(vectors, np.array([5, 1, 2, -1, 3, 0]), np.arange(10, 16), draft, 12, "float16")
    assert import_part(part) == {"no vector": 1, "not finite": 2, "all zeros": 1}
    finished = draft.finished_part("part-00012.npy")
    assert finished is not None
    entries, facts = finished
    assert facts == {"dim": 2, "rows": 2, "bad": 4}
    assert draft.read_part_array(entries["part-00012.npy"]).shape == (2, 2)
    bad = pq.read_table(f"{draft.place.uri}/{entries['part-00012-bad.parquet'].path}").to_pylist()
    assert [(row["gid"], row["reason"]) for row in bad] == [
        (11, "not finite"),
        (12, "all zeros"),
        (13, "no vector"),
        (14, "not finite"),
    ]


def test_parts_travel_with_their_own_files_alone(tmp_path: Path):
    place = Place(str(tmp_path))
    for number in range(50):
        stored(place, f"{number}.npy", npy(matrix(rows=10)))
    vectors = open_vectors(place.uri)
    draft = Draft(place, Step("embed", 1, {}))
    parts = parts_of(vectors, np.arange(500), np.arange(500), draft, dtype="float16", rows_per_part=20)
    assert [len(part.vectors.files) for part in parts] == [2] * 25
    assert [part.vectors.files[0].uri for part in parts] == [vectors.files[n].uri for n in range(0, 50, 2)]
