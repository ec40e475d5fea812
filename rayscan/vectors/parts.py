"""The embedding matrix as it lies on storage: what embed wrote, read by row range or row number.

Parts on a local path are memory-mapped; on an object store only the bytes of the asked rows travel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rayscan.artifacts import Artifact
from rayscan.errors import ArtifactError, DataError
from rayscan.storage import is_local, resolve
from rayscan.types import Ints

READ_THROUGH = 1024
"""Rows between two asked ones that are read along rather than sought over."""

MAX_LENGTH = 1.01
"""Unit rows rounded to float16 stay below this length; the search margins hold for it."""


class EmbeddingRows:
    """Rows of an embed artifact, [rows, D], train rows first. Travels to workers without them."""

    def __init__(self, artifact: Artifact) -> None:
        """Remember the artifact; nothing is read yet.

        Args:
            artifact: A finished embed result.
        """
        self.artifact = artifact
        self.train_rows = int(artifact.facts["train_rows"])
        """Rows of the train split: [0, train_rows)."""
        self.dim = int(artifact.facts["dim"])
        """Feature width D."""

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without what was read."""
        return (EmbeddingRows, (self.artifact,))

    @cached_property
    def gids(self) -> Ints:
        """Image number of every row, ascending within a split: int64 [rows]."""
        return self.artifact.read_array("gids.npy").astype(np.int64)

    @cached_property
    def is_half(self) -> bool:
        """Whether rows are stored in float16; the first part speaks for all."""
        with self._open(self._parts[0][0], 0) as part:
            return bool(part.dtype == np.float16)

    @cached_property
    def _parts(self) -> tuple[list[str], Ints]:
        """Names of the parts, and where each begins, with the end appended."""
        table = self.artifact.read_table("parts.parquet").sort_by("first_row")
        first = table["first_row"].to_numpy().astype(np.int64)
        ends = first + table["rows"].to_numpy()
        total = int(self.artifact.facts["rows"])
        starts = np.append(first, total)
        if not np.array_equal(ends, starts[1:]) or starts[0] != 0:
            raise ArtifactError(
                "embed: the parts do not cover the rows",
                expected=f"contiguous parts over rows 0..{total}",
                got=f"parts that begin at {first.tolist()[:8]} and end at {ends.tolist()[:8]}",
                where=self.artifact.place.uri,
                fix="remove this directory and run the same command again",
            )
        return table["name"].to_pylist(), starts

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """Rows [first, stop) -> float32 [stop - first, D].

        Raises:
            ArtifactError: a part is not what its table says.
            DataError: the range is not within the matrix.
        """
        names, starts = self._parts
        if not 0 <= first <= stop <= starts[-1]:
            raise DataError(
                "rows are outside the embeddings", expected=f"0..{starts[-1]}", got=f"{first}..{stop}"
            )
        out = np.empty((stop - first, self.dim), np.float32)
        for number, name in enumerate(names):
            low, high = max(first, int(starts[number])), min(stop, int(starts[number + 1]))
            if low < high:
                with self._open(name, number) as part:
                    out[low - first : high - first] = part.read(
                        low - int(starts[number]), high - int(starts[number])
                    )
        return out

    def take(self, rows: Ints) -> NDArray[np.float32]:
        """Rows by number, in the order asked for: int64 [m] -> float32 [m, D].

        Raises:
            ArtifactError: a part is not what its table says.
            DataError: a row is not within the matrix.
        """
        names, starts = self._parts
        out = np.empty((len(rows), self.dim), np.float32)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        if len(rows) and (ascending[0] < 0 or ascending[-1] >= starts[-1]):
            raise DataError(
                "rows are outside the embeddings", expected=f"0..{starts[-1]}", got=ascending[[0, -1]]
            )
        bounds = np.searchsorted(ascending, starts)
        for number, name in enumerate(names):
            mine = slice(int(bounds[number]), int(bounds[number + 1]))
            if mine.start == mine.stop:
                continue
            local = ascending[mine] - starts[number]
            breaks = np.flatnonzero(np.diff(local) > READ_THROUGH) + 1
            with self._open(name, number) as part:
                for run, places in zip(np.split(local, breaks), np.split(order[mine], breaks), strict=True):
                    out[places] = part.read(int(run[0]), int(run[-1]) + 1)[run - run[0]]
        return out

    def _open(self, name: str, number: int) -> _PartFile:
        _, starts = self._parts
        return _PartFile(self.artifact.uri_of(name), (int(starts[number + 1] - starts[number]), self.dim))


class _PartFile:
    """One open `.npy`, sliced by rows without reading the rest."""

    def __init__(self, uri: str, shape: tuple[int, int]) -> None:
        self.uri = uri
        filesystem, path = resolve(uri)
        self._stream: Any = None
        self._mapped: NDArray[Any] | None = None
        if is_local(uri):
            self._mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            self.dtype = self._mapped.dtype
            found: tuple[int, ...] = self._mapped.shape
            by_column = not self._mapped.flags.c_contiguous
        else:
            self._stream = filesystem.open_input_file(path)
            npy.read_magic(self._stream)
            found, by_column, self.dtype = npy.read_array_header_1_0(self._stream)
            self._begin = self._stream.tell()
        if found != shape or by_column or self.dtype not in (np.float16, np.float32):
            raise ArtifactError(
                "embed: a part is not what its table says",
                expected=f"float16 or float32 {shape}, by rows",
                got=f"{self.dtype} {found}",
                where=uri,
                fix="remove this directory and run the same command again",
            )
        self._row_bytes = shape[1] * self.dtype.itemsize
        self._dim = shape[1]

    def __enter__(self) -> _PartFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Rows [first, stop) of the part, in the stored precision; a view of the map where there is one."""
        if self._mapped is not None:
            return self._mapped[first:stop]
        size = (stop - first) * self._row_bytes
        data = self._stream.read_at(size, self._begin + first * self._row_bytes)
        if len(data) != size:
            raise ArtifactError(
                "embed: a part is cut short", expected=f"{size} bytes", got=len(data), where=self.uri
            )
        return np.frombuffer(data, self.dtype).reshape(-1, self._dim)


@dataclass(frozen=True)
class RowRange:
    """Rows [first, stop) of the matrix: one piece of work for a worker."""

    rows: EmbeddingRows
    first: int
    stop: int

    def read(self) -> NDArray[np.float32]:
        """The rows: float32 [stop - first, D], checked by `require_unit_rows`."""
        x = self.rows.read(self.first, self.stop)
        require_unit_rows(x, f"embedding rows {self.first}..{self.stop} of {self.rows.artifact.place.uri}")
        return x


def row_ranges(rows: EmbeddingRows, size: int) -> list[RowRange]:
    """The train rows, cut into ranges of `size` rows."""
    total = rows.train_rows
    return [RowRange(rows, first, min(first + size, total)) for first in range(0, total, size)]


def require_unit_rows(x: NDArray[np.float32], where: str) -> None:
    """Refuse rows [n, D] that inner products cannot rank by cosine.

    A row of zeros passes: it is at cosine 0 from everything.

    Raises:
        DataError: a value is NaN or infinite, or a row is longer than one.
    """
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x))
    wrong = np.flatnonzero(~(lengths <= MAX_LENGTH))  # a NaN compares false, so it is caught as well
    if len(wrong):
        raise DataError(
            "embeddings are not finite rows of unit length",
            expected=f"every length <= {MAX_LENGTH}",
            got=f"{len(wrong)} of {len(x)} rows, the first is row {wrong[0]} with length {lengths[wrong[0]]}",
            where=where,
            fix="the network that made them has diverged; look at the loss curve of the pretext stage",
        )
