"""Hostile and odd tars: each ends in its members or in a DataError, never in a loop or a wrong offset."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile

import numpy as np
import pytest

from rayscan.data.sequential import SequentialFile
from rayscan.data.tar_members import members
from rayscan.errors import DataError
from tests.unit.data.conftest import encoded, make_tar, picture, refusal, samples, scan


def pax(records: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0")


HOSTILE = [
    b"junk",
    b"0 path=x\n",
    b"99999999999999999999 path",
    b"13 size=-999\n",
    b"11 size=9x\n",
    b"=",
    b"1 =\n",
]


@pytest.mark.parametrize("records", HOSTILE)
def test_hostile_pax_headers_end_in_an_error(tar, records):
    data = pax(records, len(records)) + make_tar(samples(0, 1))
    assert "damaged" in refusal(tar(data))


def test_negative_and_huge_sizes_end_in_an_error(tar):
    for size in (-512, -1, 1 << 40):
        info = tarfile.TarInfo("a.png")
        info.size = size
        header = info.tobuf(tarfile.GNU_FORMAT)
        assert "damaged" in refusal(tar(header + bytes(2048)))
        with pytest.raises(DataError), SequentialFile(tar(header + bytes(2048))) as tape:
            list(members(tape))


def test_random_noise_in_a_tar_never_escapes_as_another_error(tar):
    data = make_tar(samples(0, 3), tarfile.PAX_FORMAT)
    rng = np.random.default_rng(0)
    for _ in range(150):
        noisy = bytearray(data)
        at = int(rng.integers(0, len(data) - 40))
        noisy[at : at + 40] = rng.bytes(40)
        with contextlib.suppress(DataError):
            scan(tar(bytes(noisy)))


def test_links_and_folders_have_no_content_whatever_their_size_says(tar):
    headers = b""
    for kind in (tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE):
        info = tarfile.TarInfo("link.png")
        info.type, info.size, info.linkname = kind, 300, "img000.png"
        headers += info.tobuf(tarfile.USTAR_FORMAT)
    data = headers + make_tar(samples(0, 2))
    with tarfile.open(fileobj=io.BytesIO(data)) as reference:
        first, second = [info.offset_data for info in reference if info.isreg()]
    assert scan(tar(data)).table["offset"].to_pylist() == [first, first, second]  # the link is its target


def test_sparse_members_are_refused(tar, tmp_path):
    sparse = tmp_path / "a.png"
    with sparse.open("wb") as stream:
        stream.write(encoded(picture(0)))
        stream.truncate(1 << 20)
    for form in ("gnu", "posix"):
        path = tmp_path / "s.tar"
        subprocess.run(["tar", f"--format={form}", "-S", "-cf", path, "-C", tmp_path, "a.png"], check=True)
        assert "sparse" in refusal(str(path))
