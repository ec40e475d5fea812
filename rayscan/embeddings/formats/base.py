"""What a format of files with vectors has to do: say which files are its own, read their head, read rows.

A new format is one file in this folder with a class below `Format`, and one line in the table `FORMATS` of
this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rayscan.data import addresses
from rayscan.embeddings.vector_file import Rows, VectorFile
from rayscan.errors import ConfigError, DataError
from rayscan.storage import FileInfo

NAMES = ("features", "embeddings", "embedding", "vector", "vectors", "emb")
"""Names under which arrays, tensors and columns of vectors are found without being named by the user."""


class Format(Protocol):
    """A format of files that hold vectors. Without state."""

    name: str
    """As files of it are called in messages."""
    suffixes: tuple[str, ...]
    """Ends of the names of its files, in lower case."""

    def claims(self, uri: str) -> bool:
        """Whether a file of this name is of this format; nothing is opened."""
        return addresses.plain(uri).lower().endswith(self.suffixes)

    def head(self, info: FileInfo, member: str) -> VectorFile:
        """What the head of a file tells; its rows are not read.

        Args:
            info: The file.
            member: Array, tensor or column with the rows, if the user says; empty to find it by its name, or
                as the only one.

        Raises:
            ConfigError: several could be meant, or the named one is not there.
            DataError: the file is damaged, or its rows are no matrix of floating point numbers.
        """
        ...

    def rows(self, file: VectorFile) -> Rows:
        """Open a file for reading rows.

        Raises:
            DataError: it is not there, or changed since its head was read.
        """
        ...


def choose(found: Sequence[str], others: Sequence[str], member: str, kind: str, uri: str) -> str:
    """The member of a file that holds the vectors.

    Args:
        found: Names of those that are matrices.
        others: Names of those that are not.
        member: As the user says, or empty.
        kind: What a member is called, for messages.
        uri: The file.

    Raises:
        ConfigError: several could be meant, or the named one is not there.
        DataError: none holds vectors.
    """
    if member:
        if member in found or member in others:
            return member
        raise ConfigError(
            f"a file has no {kind} of this name",
            expected=" or ".join(found) or "vectors",
            got=member,
            where=uri,
            fix=f"correct the name after #, or leave it out if one {kind} holds vectors",
        )
    named = [name for name in found if name.lower() in NAMES]
    candidates = named or list(found)
    if not candidates:
        raise DataError(
            "a file holds no vectors",
            expected=f"{kind}s, one of them with two dimensions and floating point numbers",
            got=", ".join(others) or "nothing",
            where=uri,
            fix=f"write the vectors under the name {NAMES[0]}, as float16, float32 or float64",
        )
    if len(candidates) > 1:
        raise ConfigError(
            f"several {kind}s of a file could be the vectors",
            expected=f"one, or one of the name {' or '.join(NAMES[:3])}",
            got=", ".join(candidates),
            where=uri,
            fix=f"name it after the file: {uri}#{candidates[0]}",
        )
    return candidates[0]
