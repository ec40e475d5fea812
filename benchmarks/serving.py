"""The service of a run under load, against its network alone on the same cores.

    python -m benchmarks.serving --json F [--quick]

    serving_efficiency             images/s of requests with one picture each, 32 at a time, over the bare
                                   batched forward of pixels that are decoded already
    serving_efficiency_8           the same with eight pictures a request
    serving_efficiency_decoded     the first over decoding and forward in one process, decoding a batch ahead
    serving_efficiency_decoded_8   the second over that
    serving_efficiency_cpu         CPU seconds of that process over those of the whole service, a picture
    p99_over_p50                   latency of the requests with one picture
    lost_requests                  of those in flight and after while a replica of two is killed

All take turns within a round. HTTP, decoding, batching, clusters and nearest images are what the service does
besides; the client runs on the same cores, too, and its CPU time is told.

The run is of imagenet-sample with lite0; without it, of seeded pictures of the same size.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import numpy as np

from benchmarks.feeding import sets
from benchmarks.harness import Report, options, spread
from rayscan import pipeline
from rayscan.context import Sources
from rayscan.data.reader import Reader
from rayscan.data.sources.tar import scan_tar
from rayscan.recipes import by_name
from rayscan.run import Run
from rayscan.serving.model import Model, Pixels
from rayscan.storage import Place
from testing.service import TOKEN, Service, running

CONCURRENCY, BATCH = 32, 32
PICTURES = (200, 500)
"""In the run: quick, full."""
REQUESTS = (200, 600)
"""Pictures sent a round: quick, full."""
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Load:
    """What became of some requests."""

    seconds: float
    latencies: list[float]
    client_cpu: float
    """CPU seconds of the client."""
    lost: int
    """Answers other than 200, and connections that broke."""


def main() -> None:
    """Measure and report."""
    asked = options(__doc__)
    report = Report(asked, "serving")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _photos(folder, PICTURES[not asked.quick], report)
        recipe = replace(by_name("custom"), num_clusters=10)
        out = folder / "run"
        pipeline.run(recipe, Sources(str(folder / "photos")), Place(str(out)))
        sent = [files[n % len(files)] for n in range(REQUESTS[not asked.quick])]
        _throughput(report, out, folder, sent)
        _kill(report, out, folder, sent)
    report.finish()


def _photos(folder: Path, count: int, report: Report) -> list[bytes]:
    uris, which = sets.shards(folder, "imagenet-sample", 5)
    table = sets.table_of([scan_tar(uri, max_pixels=100_000_000) for uri in uris])
    files = Reader(table).read(np.arange(min(count, len(table))))
    (folder / "photos").mkdir()
    for number, data in enumerate(files):
        (folder / "photos" / f"{number:05d}.jpg").write_bytes(data)
    report.detail("photos", f"{len(files)} of {which}, {np.mean([len(d) for d in files]):,.0f} bytes each")
    return files


class Bare:
    """The network in this process, with and without decoding."""

    def __init__(self, out: Path, sent: Sequence[bytes]) -> None:
        """Load, and decode the first batch."""
        self._model, self._sent = Model(Run(str(out)), threads=THREADS), sent
        self._pool = ThreadPoolExecutor(THREADS)
        self._decoded = self._batch(0)

    def _batch(self, first: int) -> list[Pixels]:
        files = self._sent[first : first + BATCH]
        return list(self._pool.map(lambda data: self._model.prepare([data]), files))

    def forward(self) -> float:
        """Pictures a second, decoded before."""
        begun, times = time.perf_counter(), max(1, len(self._sent) // BATCH)
        for _ in range(times):
            self._model(self._decoded)
        return times * BATCH / (time.perf_counter() - begun)

    def decoded(self) -> tuple[float, float]:
        """Pictures a second with decoding, which is a batch ahead; and CPU seconds a picture."""
        begun, used = time.perf_counter(), time.process_time()
        starts = range(0, len(self._sent), BATCH)
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._batch, 0)
            for first in starts:
                batch = coming.result()
                coming = ahead.submit(self._batch, first + BATCH)
                self._model(batch)
        seconds, used = time.perf_counter() - begun, time.process_time() - used
        return len(self._sent) / seconds, used / len(self._sent)


def _throughput(report: Report, out: Path, folder: Path, sent: Sequence[bytes]) -> None:
    """Bare forward, decoding and forward, and service by turns, so that a shared machine slows all."""
    bare = Bare(out, sent)
    found: dict[str, list[float]] = {}
    latencies: list[float] = []
    lost = 0
    arguments = ["--serve.threads", str(THREADS), "--serve.max-replicas", "1", "--serve.batch", str(BATCH)]
    with running(out, folder, *arguments) as service:
        asyncio.run(_load(service, sent[: 2 * CONCURRENCY], 1))
        bare.decoded()
        for _ in range(report.asked.rounds):
            before = service.cpu_seconds()
            one = asyncio.run(_load(service, sent, 1))
            cpu = (service.cpu_seconds() - before) / len(sent)
            forward, (decoded, bare_cpu) = bare.forward(), bare.decoded()
            many = asyncio.run(_load(service, sent, 8))
            single, eight = (len(sent) / load.seconds for load in (one, many))
            measured = {
                "forward": forward,
                "decoded": decoded,
                "single": single,
                "eight": eight,
                "serving_efficiency": single / forward,
                "serving_efficiency_8": eight / forward,
                "serving_efficiency_decoded": single / decoded,
                "serving_efficiency_decoded_8": eight / decoded,
                "serving_efficiency_cpu": bare_cpu / cpu,
                "client_cpu_ms": 1000 * one.client_cpu / len(sent),
                "service_cpu_ms": 1000 * cpu,
                "decoded_cpu_ms": 1000 * bare_cpu,
            }
            for name, value in measured.items():
                found.setdefault(name, []).append(value)
            latencies += one.latencies
            lost += one.lost + many.lost
    _report(report, found, latencies)
    report.detail("lost_in_throughput", lost)


def _report(report: Report, found: dict[str, list[float]], latencies: list[float]) -> None:
    for name, values in found.items():
        if name.startswith("serving_efficiency"):
            report.value(name, spread(values), goal=(">=", 0.7))
        else:
            report.detail(name, spread(values))
    p50, p99 = np.quantile(latencies, [0.5, 0.99])
    report.detail("latency_ms", {"p50": 1000 * p50, "p99": 1000 * p99})
    report.value("p99_over_p50", float(p99 / p50))


def _kill(report: Report, out: Path, folder: Path, sent: Sequence[bytes]) -> None:
    arguments = ["--serve.min-replicas", "2", "--serve.max-replicas", "2"]
    with running(out, folder, *arguments) as service:
        asyncio.run(_load(service, sent[:CONCURRENCY], 1))
        found = asyncio.run(_load(service, sent, 1, kills_after=len(sent) // 4))
        report.value("lost_requests", float(found.lost), goal=("<=", 0))
        report.detail("requests_while_killed", len(sent))


async def _load(
    service: Service, sent: Sequence[bytes], size: int, *, kills_after: int | None = None
) -> Load:
    """Send pictures, some a request, CONCURRENCY requests at a time."""
    groups = [sent[at : at + size] for at in range(0, len(sent), size)]
    latencies: list[float] = []
    lost = 0
    todo = iter(groups)

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal lost
        for group in todo:
            begun = time.perf_counter()
            try:
                async with session.post("/classify", **_body(group)) as answer:
                    await answer.read()
                    lost += answer.status != 200
            except aiohttp.ClientError:
                lost += 1
            latencies.append(time.perf_counter() - begun)
            if kills_after is not None and len(latencies) == kills_after:
                os.kill(service.replicas()[0], signal.SIGKILL)

    headers = {"Authorization": f"Bearer {TOKEN}"}
    begun, used = time.perf_counter(), time.process_time()
    async with aiohttp.ClientSession(service.url, headers=headers) as session:
        await asyncio.gather(*(client(session) for _ in range(CONCURRENCY)))
    return Load(time.perf_counter() - begun, latencies, time.process_time() - used, lost)


def _body(group: Sequence[bytes]) -> dict[str, object]:
    if len(group) == 1:
        return {"data": group[0], "headers": {"Content-Type": "image/jpeg"}}
    form = aiohttp.FormData()
    for number, data in enumerate(group):
        form.add_field("images", data, filename=f"{number}.jpg", content_type="image/jpeg")
    return {"data": form}


if __name__ == "__main__":
    main()
