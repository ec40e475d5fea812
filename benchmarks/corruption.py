"""What damaged, odd and hostile data does to rayscan: nothing may be lost silently, nothing executed.

    python -m benchmarks.corruption --json F [--quick]

1,008 seeded corruptions (210 with --quick) of a set of two shards, 21 kinds in turn. Each goes through three
doors: indexing afresh, `rayscan doctor --against` an index made before, and reading by that index.
`detected` counts corruptions that the comparison found, naming the shard, and that indexing refused where
images could be lost or mixed up. `silent_losses` counts any way in which an image was missing or other bytes
came and nothing said so. Beside: 40 odd images (`odd_right`: RGB uint8 of the right size, or the right
reason) and at least 40 hostile payloads (`executed`).
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.damage.doors import Doors, Verdict, take_in
from benchmarks.damage.hostile import Payload, payloads
from benchmarks.damage.odd import MAX_PIXELS, odd_images
from benchmarks.damage.page import strangers
from benchmarks.damage.tars import KINDS
from benchmarks.harness import Report, options
from rayscan.data.decode import decode
from rayscan.data.inspection import inspect
from rayscan.errors import RayscanError

CORRUPTIONS = {True: 210, False: 1008}


def main() -> None:
    """Measure and report."""
    asked = options(__doc__)
    report = Report(asked, "corruption")
    with tempfile.TemporaryDirectory() as name:
        _corruptions(report, Path(name) / "shards", CORRUPTIONS[asked.quick])
        _odd(report)
        _hostile(report, Path(name) / "hostile")
    report.finish()


def _corruptions(report: Report, folder: Path, count: int) -> None:
    doors = Doors(folder)
    verdicts: list[tuple[str, int, Verdict]] = []
    for seed in range(count):
        kind = KINDS[seed % len(KINDS)]
        files = dict(doors.pristine)
        damage = kind(random.Random(seed), files)
        verdicts.append((kind.__name__, seed, doors.judge(files, damage)))
    missed = [(kind, seed, verdict.complaint) for kind, seed, verdict in verdicts if verdict.complaint]
    report.value("corruptions", count, goal=(">=", CORRUPTIONS[True] if report.asked.quick else 1000))
    report.value("detected", sum(v.is_detected for _, _, v in verdicts), goal=(">=", count))
    report.value("silent_losses", sum(v.is_silent_loss for _, _, v in verdicts), goal=("<=", 0))
    report.detail("kinds", dict(Counter(kind for kind, _, _ in verdicts)))
    report.detail("refused_by_a_fresh_index", dict(Counter(k for k, _, v in verdicts if v.is_refused)))
    report.detail("missed", missed)


def _odd(report: Report) -> None:
    wrong = []
    cases = odd_images()
    for name, data, expected in cases:
        seen = inspect(data, max_pixels=MAX_PIXELS)
        got: Any = (seen.height, seen.width) if seen.status == "ok" else seen.status
        if got == expected and seen.status == "ok":
            pixels = decode(data, max_pixels=MAX_PIXELS)
            got = pixels.shape[:2] if str(pixels.dtype) == "uint8" and pixels.shape[2] == 3 else pixels.dtype
        if got != expected:
            wrong.append([name, str(expected), str(got)])
    report.value("odd_images", len(cases), goal=(">=", 40))
    report.value("odd_right", len(cases) - len(wrong), goal=(">=", len(cases)))
    report.detail("odd_wrong", wrong)


def _hostile(report: Report, folder: Path) -> None:
    canary = folder / "canary" / "OWNED"
    every = payloads(canary)
    executed = []
    outcomes: Counter[str] = Counter()
    for number, payload in enumerate(every):
        place = folder / f"{number:02d}"
        outcome, what = _attack(payload, place, canary)
        outcomes[outcome] += 1
        if what:
            executed.append([payload.name, what])
    report.value("payloads", len(every), goal=(">=", 40))
    report.value("executed", len(executed), goal=("<=", 0))
    report.detail("executed", executed)
    report.detail("outcomes", dict(outcomes))


def _attack(payload: Payload, place: Path, canary: Path) -> tuple[str, str]:
    """Hand a payload to everything that reads foreign data: how it ended, and what got executed."""
    for part in (place / "in", place / "out", canary.parent):
        part.mkdir(parents=True, exist_ok=True)
    data = payload.write(place / "in")
    labels = None
    if payload.labels is not None:
        (place / "in" / "labels.csv").write_text(payload.labels)
        labels = str(place / "in" / "labels.csv")
    before = _tree(place.parent, place / "out")
    names: list[str] = []
    try:
        names = take_in(data, place / "out", labels)
        outcome = "indexed"
    except RayscanError as error:
        outcome = "refused"
        names = [str(error)]
        if any(ord(c) < 32 and c != "\n" for c in str(error)):
            return outcome, "control characters in a message"
    if _tree(place.parent, place / "out") != before:
        return outcome, "files appeared outside of the run directory"
    return outcome, strangers(names)


def _tree(folder: Path, without: Path) -> list[str]:
    return sorted(str(p) for p in folder.rglob("*") if without not in (p, *p.parents))


if __name__ == "__main__":
    main()
