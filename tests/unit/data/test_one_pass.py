"""One pass over remote shards: few large requests, and exactly the samples that webdataset finds in them."""

from __future__ import annotations

import hashlib

import numpy as np
import webdataset

from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.recipes import by_name
from rayscan.stages import index
from rayscan.storage import Place, RemoteFile, locate
from tests.unit.data.conftest import encoded, make_tar, picture

SHARDS, EACH, PART = 2, 30, 20


def test_a_pass_in_parts_is_what_webdataset_streams(s3_uri, tmp_path, context_for, monkeypatch):
    folder = Place(s3_uri).child("pass")
    for number in range(SHARDS):
        members = [(f"{number}/{n:02d}.png", encoded(picture(100 * number + n))) for n in range(EACH)]
        data = make_tar([m for n, m in enumerate(members) for m in (m, (f"{number}/{n:02d}.cls", b"1"))])
        (tmp_path / f"{number}.tar").write_bytes(data)
        filesystem, path = locate(folder.uri_of(f"{number}.tar"))
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
    context = context_for(folder.uri_of("*.tar"))
    recipe = by_name("digits")
    artifact = index.run(recipe, {}, index.plan(recipe, {}, context.sources), context)
    requests = []
    real = RemoteFile.read
    monkeypatch.setattr(RemoteFile, "read", lambda *given: requests.append(given[1:]) or real(*given))
    table = ImageTable.from_artifact(artifact)
    reader = Reader(table)
    parts = np.split(table.gids(), range(PART, SHARDS * EACH, PART))
    ours = [data for part in parts for data in reader.read(part)]
    local = [str(tmp_path / f"{number}.tar") for number in range(SHARDS)]
    streamed = list(webdataset.WebDataset(local, shardshuffle=False))
    assert ours == [sample["png"] for sample in streamed]
    keys = artifact.read_table("images.parquet", columns=["key"])["key"].to_pylist()
    assert keys == [sample["__key__"] for sample in streamed]
    assert len(requests) == 4  # three parts, one of which lies in two shards
    assert [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in map(tmp_path.joinpath, ("0.tar", "1.tar"))
    ] == list(table.shard_sha256)
