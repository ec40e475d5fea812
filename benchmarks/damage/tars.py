"""A small image set, and every way of damaging it that a disk, a network, a script or a mean person has.

A kind of damage is a function of (random generator, files) that changes the files in place and says what a
reader must notice. Layouts are read by the standard library's tarfile, never by rayscan's own reader.
"""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

BLOCK = 512
IMAGES = (".jpg", ".jpeg", ".png")
OURS, FOREIGN = "ours-0.tar", "theirs-1.tar"
"""A shard as rayscan packs it, with a checksum beside each image, and one of somebody else."""
Files = dict[str, bytes]


@dataclass(frozen=True)
class Damage:
    """What was done."""

    shard: str
    """File that was touched."""
    refusal: Literal["must", "may", "cannot"] = "may"
    """Whether indexing afresh must refuse the shard because images could be lost or mixed up; `cannot`: only
    an earlier index can know."""


Kind = Callable[[random.Random, Files], Damage]


def picture(seed: int, kind: str = "JPEG", side: int = 24) -> bytes:
    """A smooth random picture as a file."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    smooth.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return buffer.getvalue()


def packed(members: Sequence[tuple[str, bytes]], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar as the standard library writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def foreign_members() -> list[tuple[str, bytes]]:
    """Images with labels beside them, one under a name so long that it needs a header of its own."""
    names = [f"part/{n:02d}" for n in range(7)] + ["deep/" * 40 + "07"]
    kinds = ["JPEG", "PNG"] * 4
    return [
        member
        for n, (name, kind) in enumerate(zip(names, kinds, strict=True))
        for member in ((f"{name}.{kind.lower()}", picture(100 + n, kind)), (f"{name}.cls", b"%d" % (n % 3)))
    ]


def members_of(data: bytes) -> list[tarfile.TarInfo]:
    """Members of a whole tar, with the offsets of header and content."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [member for member in tar if member.isfile()]


def contents(data: bytes) -> list[tuple[str, bytes]]:
    """Names and bytes of a whole tar."""
    return [(m.name, data[m.offset_data : m.offset_data + m.size]) for m in members_of(data)]


def images_of(data: bytes) -> list[tarfile.TarInfo]:
    """Members that are images."""
    return [m for m in members_of(data) if m.name.endswith(IMAGES)]


def _end(data: bytes) -> int:
    """First byte behind the last member: the end mark begins here."""
    last = members_of(data)[-1]
    return last.offset_data + -(-last.size // BLOCK) * BLOCK


def _cut(files: Files, shard: str, at: int) -> Damage:
    is_touched = at < _end(files[shard]) + 2 * BLOCK
    files[shard] = files[shard][:at]
    return Damage(shard, "must" if is_touched else "may")


def _any(rng: random.Random) -> str:
    return rng.choice((OURS, FOREIGN))


def _image(rng: random.Random, data: bytes) -> tarfile.TarInfo:
    return rng.choice(images_of(data))


def cut_anywhere(rng: random.Random, files: Files) -> Damage:
    """At any byte."""
    return _cut(files, shard := _any(rng), rng.randrange(len(files[shard])))


def cut_in_a_header(rng: random.Random, files: Files) -> Damage:
    """Within the 512 bytes before a member."""
    shard = _any(rng)
    return _cut(files, shard, _image(rng, files[shard]).offset_data - rng.randrange(1, BLOCK))


def cut_between_members(rng: random.Random, files: Files) -> Damage:
    """Where a member ends: the case that tarfile and webdataset take for the end."""
    shard = _any(rng)
    return _cut(files, shard, rng.choice(members_of(files[shard])[1:]).offset)


def cut_in_a_body(rng: random.Random, files: Files) -> Damage:
    """Within an image."""
    member = _image(rng, files[shard := _any(rng)])
    return _cut(files, shard, member.offset_data + rng.randrange(1, member.size))


def cut_in_the_end_mark(rng: random.Random, files: Files) -> Damage:
    """No zero block, or one, or part of one is left."""
    return _cut(files, shard := _any(rng), _end(files[shard]) + rng.randrange(2 * BLOCK))


def _flip(rng: random.Random, files: Files, shard: str, first: int, stop: int) -> None:
    data, at = bytearray(files[shard]), rng.randrange(first, stop)
    data[at] ^= 1 << rng.randrange(8)
    files[shard] = bytes(data)


def flip_in_a_header(rng: random.Random, files: Files) -> Damage:
    """One bit of the part of a header that its checksum covers."""
    member = _image(rng, files[shard := _any(rng)])
    _flip(rng, files, shard, member.offset_data - BLOCK, member.offset_data)
    return Damage(shard, "must")


def flip_in_an_image(rng: random.Random, files: Files) -> Damage:
    """One bit of an image: most decoders take it for a slightly other picture."""
    member = _image(rng, files[shard := _any(rng)])
    _flip(rng, files, shard, member.offset_data, member.offset_data + member.size)
    return Damage(shard)


def flip_anywhere(rng: random.Random, files: Files) -> Damage:
    """One bit of the tar."""
    _flip(rng, files, shard := _any(rng), 0, len(files[shard]))
    return Damage(shard)


def zero_a_sector(rng: random.Random, files: Files) -> Damage:
    """512 aligned bytes before the end, as a disk loses them."""
    shard = _any(rng)
    data = files[shard]
    filled = [at for at in range(0, _end(data), BLOCK) if any(data[at : at + BLOCK])]
    at = rng.choice(filled)
    files[shard] = data[:at] + bytes(BLOCK) + data[at + BLOCK :]
    is_header = any(m.offset_data - BLOCK == at for m in members_of(data))
    return Damage(shard, "must" if is_header else "may")


def scramble_a_run(rng: random.Random, files: Files) -> Damage:
    """Random bytes over up to 4 KB."""
    shard = _any(rng)
    data = files[shard]
    at = rng.randrange(_end(data))
    files[shard] = (data[:at] + rng.randbytes(rng.randrange(16, 4096)) + data[at:])[: len(data)]
    return Damage(shard)


def lose_bytes(rng: random.Random, files: Files) -> Damage:
    """A few bytes are missing and everything moves up."""
    shard = _any(rng)
    data, at = files[shard], rng.randrange(_end(files[shard]))
    files[shard] = data[:at] + data[at + rng.randrange(1, 64) :]
    return Damage(shard)


def append_garbage(rng: random.Random, files: Files) -> Damage:
    """Something lies behind the end mark."""
    shard = _any(rng)
    files[shard] += rng.randbytes(rng.randrange(1, 2048)) + b"\1"
    return Damage(shard, "must")


def join_two_tars(rng: random.Random, files: Files) -> Damage:
    """`cat a.tar b.tar`: readers stop at the first end mark."""
    shard = _any(rng)
    extra = [(f"more/{n}.png", picture(rng.randrange(10**6), "PNG")) for n in range(3)]
    files[shard] += packed(extra)
    return Damage(shard, "must")


def empty_a_shard(rng: random.Random, files: Files) -> Damage:
    """Zero bytes are left."""
    return _cut(files, _any(rng), 0)


def lose_a_shard(rng: random.Random, files: Files) -> Damage:
    """The file is gone."""
    del files[shard := _any(rng)]
    return Damage(shard, "must")


def repeat_a_key_beside(rng: random.Random, files: Files) -> Damage:
    """A member twice in a row."""
    return _repeated(rng, files, 1)


def repeat_a_key_apart(rng: random.Random, files: Files) -> Damage:
    """A key again at the end of its shard."""
    return _repeated(rng, files, None)


def _repeated(rng: random.Random, files: Files, distance: int | None) -> Damage:
    shard = _any(rng)
    members = contents(files[shard])
    images = [n for n, (name, _) in enumerate(members) if name.endswith(IMAGES)]
    at = rng.choice(images[:-1])
    extra = (members[at][0], picture(rng.randrange(10**6), "PNG"))
    members.insert(len(members) if distance is None else at + distance, extra)
    files[shard] = packed(members)
    return Damage(shard, "must")


def repeat_a_key_across(rng: random.Random, files: Files) -> Damage:
    """A key of one shard in the other one as well: an index of both keeps them apart by their shards."""
    name = _image(rng, files[OURS]).name
    files[FOREIGN] = packed([*contents(files[FOREIGN]), (name, picture(rng.randrange(10**6), "PNG"))])
    return Damage(FOREIGN)


def interleave_samples(_rng: random.Random, files: Files) -> Damage:
    """a.jpg b.jpg a.cls b.cls: four half samples to a reader that groups neighbors."""
    members = contents(files[FOREIGN])
    files[FOREIGN] = packed([*members[::2], *members[1::2]])
    return Damage(FOREIGN, "must")


def swap_two_images(rng: random.Random, files: Files) -> Damage:
    """Two images under each other's names, in a whole tar."""
    shard = _any(rng)
    members = contents(files[shard])
    images = [n for n, (name, _) in enumerate(members) if name.endswith(IMAGES)]
    one, other = rng.sample(images, 2)
    (a, x), (b, y) = members[one], members[other]
    members[one], members[other] = (a, y), (b, x)
    files[shard] = packed(members)
    return Damage(shard, "cannot")


def drop_an_image(rng: random.Random, files: Files) -> Damage:
    """The shard written again without one of its images."""
    shard = _any(rng)
    gone = _image(rng, files[shard]).name
    files[shard] = packed([member for member in contents(files[shard]) if member[0] != gone])
    return Damage(shard, "cannot")


KINDS: tuple[Kind, ...] = (
    cut_anywhere,
    cut_in_a_header,
    cut_between_members,
    cut_in_a_body,
    cut_in_the_end_mark,
    flip_in_a_header,
    flip_in_an_image,
    flip_anywhere,
    zero_a_sector,
    scramble_a_run,
    lose_bytes,
    append_garbage,
    join_two_tars,
    empty_a_shard,
    lose_a_shard,
    repeat_a_key_beside,
    repeat_a_key_apart,
    repeat_a_key_across,
    interleave_samples,
    swap_two_images,
    drop_an_image,
)
