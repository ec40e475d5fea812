"""A folder that appears whole or not at all: made under a name of its own beside, then renamed.

`rayscan.json` in it says which format it is and what it was made of. Only a folder with that file is ever
replaced, and on an object store, which renames nothing, it is written last: without it there is no export.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path

from rayscan.errors import ConfigError
from rayscan.storage import Place, local_path
from rayscan.version import __version__

NOTE = "rayscan.json"


@contextmanager
def whole_folder(out: str, form: str, facts: Mapping[str, object]) -> Iterator[Path]:
    """Make a folder.

    Args:
        out: Address of the folder, local or on an object store.
        form: Name of the format.
        facts: What the note says beside it; JSON values. What is added before the end is written too.

    Yields:
        An empty local directory to fill. It becomes OUT when the block ends, and is removed when it raises.

    Raises:
        ConfigError: OUT holds something that no such export wrote.
    """
    place, target = Place(out), local_path(out)
    if place.names() and place.size(NOTE) is None:
        raise ConfigError(
            "OUT holds something that no such export wrote",
            expected=f"a free name, or a folder with {NOTE}",
            got=place.uri,
            where="OUT",
            fix="choose another one: what is there would be removed",
        )
    if target is None:
        with tempfile.TemporaryDirectory(prefix="rayscan-export-") as made:
            yield Path(made)
            _upload(Path(made), place, _note(form, facts))
        return
    making = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    making.mkdir(parents=True)
    try:
        yield making
        (making / NOTE).write_bytes(_note(form, facts))
        for file in sorted(making.rglob("*")):
            _synced(file)
        put_in_place(making, target)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _note(form: str, facts: Mapping[str, object]) -> bytes:
    return json.dumps({"rayscan": __version__, "format": form, **facts}, indent=2).encode()


def _synced(path: Path) -> None:
    """Have the disk hold a file or folder before it gets its name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(making: Path, target: Path) -> None:
    """Give a finished folder its name; one that has it goes only then."""
    former = making.with_suffix(".former")
    if target.exists():
        target.rename(former)
    making.rename(target)
    shutil.rmtree(former, ignore_errors=True)
    _synced(target.parent)


def _upload(made: Path, place: Place, note: bytes) -> None:
    place.delete(NOTE)  # from here on what was there is no export
    for name in place.names():
        place.delete(name)
    for file in sorted(path for path in made.rglob("*") if path.is_file()):
        name = file.relative_to(made).as_posix()
        with file.open("rb") as stream:
            if not file.stat().st_size:
                place.write(name, b"")
                continue
            with mmap(stream.fileno(), 0, access=ACCESS_READ) as whole, memoryview(whole) as data:
                place.write(name, data)
    place.write(NOTE, note)
