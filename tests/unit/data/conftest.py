"""Real image files, real tars and a river of one stage: shared by the tests of images in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data.sources.base import Scan
from rayscan.data.sources.tar import scan_tar
from rayscan.errors import DataError
from rayscan.storage import Place

LIMIT = 10_000_000
"""Most pixels of an image."""
SHARED = Path(__file__).parents[4] / "shared" / "data"


def picture(seed: int, height: int = 12, width: int = 16) -> np.ndarray[Any, Any]:
    """A smooth random picture, uint8 [h, w, 3]: JPEG keeps it nearly as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray[Any, Any], kind: str = "PNG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.fixture
def tar(tmp_path: Path) -> Callable[[bytes], str]:
    """Writes the bytes of a shard."""

    def write(data: bytes) -> str:
        path = tmp_path / "shard.tar"
        path.write_bytes(data)
        return str(path)

    return write


def scan(path: str) -> Scan:
    """What indexing sees of a shard."""
    return scan_tar(path, max_pixels=LIMIT)


def refusal(path: str) -> str:
    """What indexing says when it refuses a shard, which it names."""
    with pytest.raises(DataError) as caught:
        scan(path)
    assert str(path) in caught.value.text
    return caught.value.text


def make_tar(members: Sequence[tuple[str, bytes]], tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar as the standard library writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def samples(first: int, stop: int) -> list[tuple[str, bytes]]:
    """Members of samples `img<n>.png`."""
    return [(f"img{n:03d}.png", encoded(picture(n))) for n in range(first, stop)]


class Serial:
    """The fleet's map in this process, one call after the other, all pickled as on the fleet."""

    def __init__(self) -> None:
        self.calls = 0

    def map(self, fn: Any, items: Sequence[Any], *, on_done: Any = None, uses_gpu: bool = False) -> list[Any]:
        import pickle

        results = []
        for number, item in enumerate(items):
            self.calls += 1
            result = pickle.loads(pickle.dumps(fn(pickle.loads(pickle.dumps(item)))))
            results.append(result)
            if on_done is not None:
                on_done(number, result)
        return results


@pytest.fixture
def context_for(tmp_path: Path) -> Callable[..., Context]:
    """Build a context that writes into the test's folder."""

    def build(
        data: str | None, eval_data: str | None = None, labels: str | None = None, out: str = "out"
    ) -> Context:
        sources = Sources(data, eval_data, labels)
        return Context(Place(str(tmp_path / out)), sources, Serial(), Progress(io.StringIO()))  # type: ignore[arg-type]

    return build


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Files by relative path."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def shared(name: str) -> Path:
    """A shared data set, or a skipped test."""
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"needs ../shared/data/{name}")
    return path
