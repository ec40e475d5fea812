"""Commands on images before a run: pack them, index them, say what is damaged; and on the machines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from rayscan.cli.arguments import NO_READING, ReadingOptions, absolute, sources
from rayscan.errors import ArtifactError, DataError, FleetError

if TYPE_CHECKING:
    from rayscan.artifacts import Artifact
    from rayscan.data.listing import Map

FEW_BYTES = 300_000_000
"""Up to so much is read in this process, without starting Ray."""


def shard(
    folder: Positional[Annotated[str, arg(metavar="FOLDER")]],
    out: Positional[Annotated[str, arg(metavar="OUT")]],
    *,
    labels_from_folders: bool = False,
    resize: bool = False,
    resize_px: int | None = None,
    image_column: str | None = None,
    imagenet_classes: Literal[50, 100, 200] | None = None,
    address: str | None = None,
    shard_megabytes: float = 200.0,
) -> None:
    """Pack a folder of images, or a list, into WebDataset shards.

    The same command again adds what is new.

    Args:
        folder: A folder, nested or flat, a list, zip archives, or Parquet files with images.
        out: Where the shards go.
        labels_from_folders: The first folder level names the class: also write labels.parquet.
        resize: Re-encode larger pictures to a short side of 256 px; without it bytes are copied as they are.
        resize_px: The same with another short side.
        image_column: The column with the images, where they are in Parquet files.
        imagenet_classes: Take only the classes of ImageNet-50, -100 or -200 of the SCAN paper, by folders of
            WordNet ids.
        address: Ray to join; none starts one here if it is worth it.
        shard_megabytes: Size at which a new shard begins.
    """
    from rayscan.data.classes import imagenet_subset
    from rayscan.data.packing import require_apart, write_shards
    from rayscan.data.shard_writer import JPEG_QUALITY, RESIZE_PX
    from rayscan.stages.index import listed

    px = resize_px or (RESIZE_PX if resize else None)
    if px is not None:
        sys.stdout.write(f"larger pictures get a short side of {px} px; JPEG quality {JPEG_QUALITY}\n")
    require_apart(folder, out)
    listing = listed(folder, image_column=image_column)
    sys.stdout.writelines(f"{line}\n" for line in listing.left_out.lines())
    with ExitStack() as stack:
        summary = write_shards(
            listing,
            out,
            labels_from_folders=labels_from_folders,
            shard_bytes=int(shard_megabytes * 1e6),
            resize_px=px,
            wnids=frozenset(imagenet_subset(imagenet_classes)) if imagenet_classes else None,
            apply=_mapper(listing.size, address, stack),
        )
    sys.stdout.writelines(f"{line}\n" for line in (*listing.left_out.lines_of_members(), summary))


def index(
    data: Positional[Annotated[str, arg(metavar="DATA")]],
    *,
    out: str,
    eval_data: str | None = None,
    on_bad: Literal["skip", "stop"] = "skip",
    max_bad_fraction: float = 0.001,
    max_pixels: int = 64_000_000,
    bands: str | None = None,
    reading: ReadingOptions = NO_READING,
) -> None:
    """Write the index of a run: every image is decoded once, bad ones are named.

    Args:
        data: Images of the train split: shards, a folder, or a list.
        out: Where the index goes; a later `run` with the same --out takes it over.
        eval_data: Images of the eval split.
        reading: Which parts of files are the images.
        on_bad: Images that cannot be decoded go into quarantine, or end the command.
        max_bad_fraction: With skip: end the command when more than this share is bad.
        max_pixels: Larger pictures are decoded at a reduced scale (JPEG, JPEG 2000), or are bad.
        bands: Bands of TIFFs that are red, green and blue, as 3,2,1, or the one that is grey.
    """
    from rayscan.recipes import by_name
    from rayscan.storage import Place

    custom = by_name("custom")
    limits = replace(
        custom.images, on_bad=on_bad, max_bad_fraction=max_bad_fraction, max_pixels=max_pixels, bands=bands
    )
    recipe = replace(custom, num_clusters=2, images=limits)  # indexing forms none, but a run wants to know
    given = sources(data, eval_data, reading=reading)
    from rayscan import pipeline
    from rayscan.stages import index

    facts = pipeline.run(recipe, given, Place(out), stages=(index,))["index"].facts
    sys.stdout.write(
        f"{facts['train']:,} train, {facts['eval']:,} eval, {facts['quarantined']:,} quarantined\n"
    )


def doctor(
    data: Positional[Annotated[str | None, arg(metavar="DATA")]] = None,
    *,
    against: str | None = None,
    address: str | None = None,
    out: str | None = None,
    image_column: str | None = None,
    image_member: str | None = None,
) -> None:
    """Are the machines fit? With DATA: what is there, and what is damaged.

    Args:
        data: Images: shards, a folder, or a list.
        against: A run or an index directory: compare every byte with what it recorded.
        address: Ray whose nodes are examined: auto, or host:port; RAY_ADDRESS if not given, else this machine
            alone. With DATA: Ray to join for large collections; none starts one here if it is worth it.
        out: Without DATA: an --out that every node shall write and read.
        image_column: The column with the images, where they are in Parquet files; found by itself if there is
            one.
        image_member: The extension of the members that are the images, where samples of shards have several.

    Raises:
        DataError: the collection is not whole.
        FleetError: something is wrong with the machines.
    """
    if data is None:
        _examine_machines(address, out)
    else:
        _examine_data(absolute(data) or "", against, address, image_column, image_member)


def _examine_data(
    data: str, against: str | None, address: str | None, image_column: str | None, image_member: str | None
) -> None:
    """Print what is there, and fail if images are lost or changed."""
    from rayscan.config import ImagesConfig
    from rayscan.data import doctor, verification
    from rayscan.stages.index import listed

    listing = listed(data, image_column=image_column, image_member=image_member)
    with ExitStack() as stack:
        apply = _mapper(listing.size, address, stack)
        lines, is_whole = doctor.describe(
            listing, apply(doctor.examine, doctor.tasks(listing, ImagesConfig().max_pixels))
        )
        if against is not None:
            findings = verification.compare(_index_of(against), apply)
            lines += [f"changed: {finding}" for finding in findings[: doctor.MAX_LINES]]
            lines.append(f"{len(findings):,} differences from the index of {against}")
            is_whole = is_whole and not findings
    sys.stdout.write("\n".join(lines) + "\n")
    if not is_whole:
        raise DataError(
            "this collection is not whole",
            expected="images, whole shards" + (", bytes as indexed" if against else ""),
            got="see above",
            where=data,
            fix="copy or write the shards that are named again",
        )


def _examine_machines(address: str | None, out: str | None) -> None:
    """Print what every node of a Ray is, or this machine alone, and fail if something is wrong."""
    from rayscan.config import FleetConfig
    from rayscan.fleet import doctor
    from rayscan.fleet.connect import Fleet
    from rayscan.storage import Place

    storage = None if out is None else Place(out)
    if joined := address or os.environ.get("RAY_ADDRESS"):
        with Fleet(FleetConfig(address=joined), storage or Place("."), _print) as fleet:
            reports = doctor.inspect_nodes(fleet, storage)
            driver = replace(doctor.inspect_node(None, time.time()), name="this process")
            found = doctor.findings(reports, driver=driver)
    else:
        reports = [doctor.inspect_node(storage, time.time())]
        found = doctor.findings(reports, knows_ray=False)
    for line in [line for report in reports for line in report.lines(knows_ray=bool(joined))]:
        _print(line)
    for line in [f"wrong: {line}" for line in found] or ["nothing wrong was found"]:
        _print(line)
    if found:
        raise FleetError(
            "these machines are not fit",
            expected="no finding",
            got=f"{len(found)}, see above",
            where=joined or "this machine",
            fix="correct what is named; jobs and nodes want the same packages (requirements.lock)",
        )


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _index_of(uri: str) -> Artifact:
    """Return the index of a run, or the artifact of an index directory."""
    from rayscan.artifacts import load
    from rayscan.storage import Place

    place = Place(uri)
    if place.size("manifest.json") is not None:
        return load(place)
    found = [name for name in place.names() if name.startswith("index-")]
    whole = [n for n in found if place.child(n).size("manifest.json") is not None]
    if len(whole) != 1:
        raise ArtifactError(
            "there is not one index here",
            expected="a run with one finished index-*, or its directory",
            got=", ".join(whole) or "none",
            where=uri,
            fix="name the index directory itself",
        )
    return load(place.child(whole[0]))


def _mapper(size: int, address: str | None, stack: ExitStack) -> Map:
    """Return a `[fn(item) for item in items]` that runs here if the work is little, else on the fleet.

    Args:
        size: Bytes to go through.
        address: Ray to join; given, it is used however small the work is.
        stack: Ends what was started.
    """
    if address is None and size <= FEW_BYTES:
        return lambda fn, items: [fn(item) for item in items]
    from rayscan.config import FleetConfig
    from rayscan.console.progress import Progress
    from rayscan.fleet.connect import Fleet
    from rayscan.storage import Place

    progress = Progress()
    fleet = stack.enter_context(Fleet(FleetConfig(address=address), Place("."), progress.say))

    def apply(fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        progress.start(fn.__name__, len(items), "tasks")
        return fleet.map(fn, items, on_done=lambda _number, _result: progress.advance())

    return apply
