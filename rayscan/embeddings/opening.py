"""The vectors that the user names: files in their order, heads read and compared. Rows are not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pyarrow import fs as pafs

from rayscan import storage
from rayscan.data import addresses, folders
from rayscan.embeddings import clip_retrieval
from rayscan.embeddings.formats import FORMATS, format_of
from rayscan.embeddings.vector_file import VectorFile
from rayscan.embeddings.vectors import Vectors
from rayscan.errors import ConfigError, DataError
from rayscan.storage import FileInfo, refuse_secrets

HEADS_AT_ONCE = 16
_WEB = re.compile(r"\s*(https?|ftp)://", re.IGNORECASE)
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".joblib")


def open_vectors(spec: str) -> Vectors:
    """Find the vectors that the user means, and read the heads of their files.

    Args:
        spec: Path, URI, glob (`*`, `?`, `[..]`, `**`), brace pattern, comma list of those, or folder, also
            one that clip-retrieval wrote. `#NAME` after it names the array, tensor or column. Files of a list
            are joined in the order of the list, those of a pattern or folder in natural order: 2 before 10.

    Raises:
        ConfigError: the text is no address, carries credentials, or leaves open which member is meant.
        DataError: nothing is there, a file is damaged, or the files do not go together.
    """
    if not spec.strip() or "\0" in spec:
        raise ConfigError("no file of vectors is named", expected="a path or URI", got=ascii(spec))
    is_list = "," in _query(spec) or not _is_there(_member(spec)[0])
    texts = addresses.split_commas(spec) if is_list else [spec]
    files = [file for text in texts for file in _part(text)]
    twice = [name for name, count in Counter(f.where for f in files).items() if count > 1]
    if twice:
        raise ConfigError("vectors are named twice", expected="each file once", got=twice[0], where=spec)
    _require_alike(files, spec)
    return Vectors(spec, tuple(files))


def _query(text: str) -> str:
    """What follows the name in a URI: no part of the name, so it may hold what ends or parts names."""
    return text.partition("?")[2] if "://" in text else ""


def _member(text: str) -> tuple[str, str]:
    """An address and the member named after its query; after a query a `#` is no part of a name."""
    head, _, member = text.rpartition("#")
    return (head, member) if storage.split_query(head)[1] else (text, "")


def _is_there(text: str) -> bool:
    _refuse(text)
    return bool(storage.kind_of(addresses.absolute(text)) != pafs.FileType.NotFound)


def _refuse(text: str) -> None:
    """Refuse web addresses, and addresses with credentials.

    Raises:
        ConfigError: naming what was found, no secret.
    """
    if _WEB.match(text):
        raise ConfigError(
            "web addresses cannot be read by position",
            expected="a local path, s3://, gs:// or another filesystem",
            got=text,
            fix="download the files first, or mount them",
        )
    refuse_secrets(text)


def _part(text: str) -> list[VectorFile]:
    """The files of one part of a list, in order."""
    text, member = _member(text)
    if not member and "#" in text and not _is_there(text):
        text, _, member = text.rpartition("#")
    _refuse(text)
    uri = addresses.absolute(text)
    kind = storage.kind_of(uri)
    if kind == pafs.FileType.Directory and (pairs := clip_retrieval.pairs(uri)):
        return clip_retrieval.with_keys(_heads([rows for rows, _ in pairs], member), pairs)
    return _heads(_named(uri, kind, text), member)


def _named(uri: str, kind: pafs.FileType, text: str) -> list[str]:
    """Addresses of the files that one part of a list means, in order."""
    if kind == pafs.FileType.File:
        return [uri]
    if kind == pafs.FileType.Directory:
        found = [file.uri for file in folders.files_below(uri, recursive=False)]
        found = [name for name in found if format_of(name) is not None]
    else:
        names = addresses.expand_braces(uri)
        found = [name for name in names if not addresses.is_glob(name)]
        found += [f.uri for name in names if addresses.is_glob(name) for f in folders.matching(name)]
    if not found:
        raise DataError(
            "there are no vectors here",
            expected=_suffixes(),
            got="no such file",
            where=text,
            fix="name files, a pattern, or the folder that clip-retrieval wrote img_emb/ and metadata/ into",
        )
    return sorted(found, key=natural)


def natural(uri: str) -> list[tuple[int, int, str]]:
    """Key that sorts numbers within names by their value: part-2 before part-10."""
    parts = re.split(r"(\d+)", addresses.plain(uri))
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts]


def _heads(uris: Sequence[str], member: str) -> list[VectorFile]:
    infos = storage.stat(uris)
    missing = [info.uri for info in infos if info.size == storage.MISSING]
    if missing:
        raise DataError(
            "named files are missing", expected=f"{len(uris):,} files", got=f"no {missing[0]}", where=uris[0]
        )
    with ThreadPoolExecutor(HEADS_AT_ONCE, thread_name_prefix="rayscan-heads") as pool:
        return list(pool.map(lambda info: _head(info, member), infos))


def _head(info: FileInfo, member: str) -> VectorFile:
    known = format_of(info.uri)
    if known is None:
        is_pickle = addresses.plain(info.uri).lower().endswith(_PICKLES)
        raise DataError(
            "a pickle runs code when it is read" if is_pickle else "this is no file of vectors",
            expected=_suffixes(),
            got=info.uri,
            fix="write it with numpy.save, or safetensors"
            if is_pickle
            else "write it in one of these formats",
        )
    if info.size == 0:
        raise DataError("a file of vectors is empty", expected="rows", got="0 bytes", where=info.uri)
    return known.head(info, member)


def _require_alike(files: Sequence[VectorFile], spec: str) -> None:
    """Refuse files of other widths or number types than the first."""
    first = files[0]
    for file in files[1:]:
        if (file.dim, file.dtype) != (first.dim, first.dtype):
            raise DataError(
                "files of vectors do not go together",
                expected=f"{first.dim} wide, {first.dtype}, as {first.where}",
                got=f"{file.dim} wide, {file.dtype}, in {file.where}",
                where=spec,
                fix="name the files of one network",
            )


def _suffixes() -> str:
    return " ".join(suffix for known in FORMATS for suffix in known.suffixes)
