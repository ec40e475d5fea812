"""Operations of an `edits.json`, in the order in which a person did them, checked while they are read.

{"schema": 1,
 "fingerprint": sha256 of the assignments that were edited (`history.fingerprint_of`),
 "operations": [{"op": "rename", "cluster": 3, "name": "cats"},
                {"op": "join", "clusters": [5, 7], "into": 3},
                {"op": "waste", "clusters": [9]},
                {"op": "restore", "clusters": [9]},
                {"op": "create", "cluster": 20, "name": "dogs"},
                {"op": "move", "images": [17, "photos/cat.jpg"], "to": 20}]}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from rayscan.assignments import WASTE
from rayscan.errors import DataError

SCHEMA = 1
WASTE_NAME = "waste"
MAX_BYTES = 1 << 26
MAX_OPERATIONS = 100_000
MAX_NAME = 200
"""Characters of a name."""
MAX_NUMBER = 2**31 - 1
"""Clusters are int32 in the assignments."""
HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Rename:
    """Give a cluster a name; one that another cluster has joins the two."""

    OP: ClassVar = "rename"
    cluster: int
    name: str


@dataclass(frozen=True)
class Join:
    """Put the images of clusters into another one, whose number and name stay."""

    OP: ClassVar = "join"
    clusters: tuple[int, ...]
    into: int


@dataclass(frozen=True)
class Waste:
    """Mark clusters as of no use: their images get cluster -1."""

    OP: ClassVar = "waste"
    clusters: tuple[int, ...]


@dataclass(frozen=True)
class Restore:
    """Take clusters out of waste again."""

    OP: ClassVar = "restore"
    clusters: tuple[int, ...]


@dataclass(frozen=True)
class Create:
    """Make an empty cluster; its number is the next free one."""

    OP: ClassVar = "create"
    cluster: int
    name: str


@dataclass(frozen=True)
class Move:
    """Put single images into a cluster, or into waste with -1."""

    OP: ClassVar = "move"
    images: tuple[int | str, ...]
    """gids, or text that is the id, source or key of an image."""
    to: int


Operation = Rename | Join | Waste | Restore | Create | Move
KINDS: dict[str, type[Operation]] = {kind.OP: kind for kind in (Rename, Join, Waste, Restore, Create, Move)}


@dataclass(frozen=True)
class Edits:
    """What an `edits.json` holds."""

    fingerprint: str
    """Of the assignments that were edited."""
    operations: tuple[Operation, ...]


def as_json(operation: Operation) -> dict[str, Any]:
    """The record of an operation in an `edits.json`."""
    return {"op": operation.OP, **asdict(operation)}


def read_edits(data: bytes, where: str) -> Edits:
    """Read an `edits.json`.

    Args:
        data: The bytes of the file.
        where: Its address, for messages.

    Raises:
        DataError: it is too large, no JSON, of another schema, or an operation cannot be used, saying which.
    """
    tree = parse(data, where)
    if not isinstance(tree, dict) or set(tree) != {"schema", "fingerprint", "operations"}:
        raise _bad("an object with schema, fingerprint and operations", _shown(tree), where)
    if tree["schema"] != SCHEMA or isinstance(tree["schema"], bool):
        raise _bad(f"schema {SCHEMA}", f"schema {_shown(tree['schema'])}", where)
    fingerprint = tree["fingerprint"]
    if not isinstance(fingerprint, str) or len(fingerprint) != 64 or not set(fingerprint) <= HEX:
        raise _bad(
            "a fingerprint of 64 hex digits, as `rayscan apply RUN --dry-run` says",
            _shown(fingerprint),
            where,
        )
    return Edits(fingerprint, read_operations(tree["operations"], where))


def read_operations(listed: object, where: str) -> tuple[Operation, ...]:
    """Operations from their JSON records.

    Raises:
        DataError: one cannot be used, saying which.
    """
    if not isinstance(listed, list) or len(listed) > MAX_OPERATIONS:
        got = f"{len(listed):,} of them" if isinstance(listed, list) else _shown(listed)
        raise _bad(f"a list of at most {MAX_OPERATIONS:,} operations", got, where)
    return tuple(_operation(one, f"{where}: operations[{at}]") for at, one in enumerate(listed))


def parse(data: bytes, where: str, most: int | None = MAX_BYTES) -> Any:
    """JSON without repeated keys and without numbers that JSON does not have.

    Args:
        data: The bytes of a file.
        where: Its address, for messages.
        most: Bytes that are accepted; any number if none.

    Raises:
        DataError: it is too large, or no such JSON.
    """
    if most is not None and len(data) > most:
        raise _bad(f"at most {most:,} bytes", f"{len(data):,} bytes", where)
    try:
        return json.loads(data, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _bad("JSON in UTF-8, every key once", error, where) from error


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError(f"key {_repeated([name for name, _ in pairs])} stands there twice")
    return tree


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _operation(record: object, where: str) -> Operation:
    if not isinstance(record, dict) or not _is_kind(record.get("op")):
        raise _bad(f"an object whose op is one of {', '.join(KINDS)}", _shown(record), where)
    kind = KINDS[record["op"]]
    names = [field.name for field in fields(kind)]
    if set(record) != {"op", *names}:
        raise _bad(f"{kind.OP} with {', '.join(names)}", ", ".join(map(str, record)), where)
    return kind(**{name: CHECKS[name](record[name], f"{where}.{name}") for name in names})


def _is_kind(value: object) -> bool:
    return isinstance(value, str) and value in KINDS


def _number(value: object, where: str, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_NUMBER:
        raise _bad(f"a whole number of {least} or more", _shown(value), where)
    return value


def _target(value: object, where: str) -> int:
    return _number(value, where, WASTE)


def _numbers(value: object, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise _bad("a list of cluster numbers", _shown(value), where)
    numbers = tuple(_number(one, f"{where}[{at}]") for at, one in enumerate(value))
    _require_once(numbers, where)
    return numbers


def _images(value: object, where: str) -> tuple[int | str, ...]:
    if not isinstance(value, list) or not value:
        raise _bad("a list of images: gids, or ids, sources or keys as text", _shown(value), where)
    images = tuple(
        _text(one, f"{where}[{at}]") if isinstance(one, str) else _number(one, f"{where}[{at}]")
        for at, one in enumerate(value)
    )
    _require_once(images, where)
    return images


def _text(value: str, where: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _bad("text that UTF-8 can hold", _shown(value), where)
    return value


def _require_once(values: Sequence[int | str], where: str) -> None:
    if len(set(values)) != len(values):
        raise _bad("each of them once", f"{_repeated(values)} twice", where)


def _repeated(values: Sequence[int | str]) -> str:
    return _shown(Counter(values).most_common(1)[0][0])


def _name(value: object, where: str) -> str:
    """A name as it is shown: without blanks around it, and no text that breaks a line."""
    name = value.strip() if isinstance(value, str) else ""
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name.casefold() == WASTE_NAME:
        expected = f"1 to {MAX_NAME} printable characters, other than {WASTE_NAME!r}"
        raise _bad(expected, _shown(value), where)
    return name


CHECKS: Mapping[str, Callable[[object, str], Any]] = {
    "cluster": _number,
    "clusters": _numbers,
    "into": _number,
    "images": _images,
    "to": _target,
    "name": _name,
}
"""Field -> what reads it."""


def _shown(value: object) -> str:
    """A foreign value, cut, as ASCII."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _bad(expected: str, got: object, where: str) -> DataError:
    return DataError(
        "the edits cannot be used",
        expected=expected,
        got=got,
        where=where,
        fix="correct the file, or save it anew from the report page; nothing was changed",
    )
