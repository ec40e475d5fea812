"""The interruption notice of a spot machine, passed on to Ray: `python -m rayscan.fleet.spot &`.

One runs on every spot machine (`cluster.yaml` starts it). It asks the machine's metadata service every two
seconds, hears of the end two minutes before on AWS, half a minute on Google Cloud, and tells Ray to drain the
node. Trainings hear that and write a checkpoint (engine.preemption). Nothing is sent anywhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime

METADATA = "RAYSCAN_METADATA_URL"
"""Environment variable: where to ask instead of the address all clouds use."""
EVERYWHERE = "http://169.254.169.254"
POLL_SECONDS = 2.0
ANSWER_SECONDS = 2.0
GOOGLE_SECONDS = 30.0


def seconds_left(base: str) -> float | None:
    """Seconds until this machine is taken; None if nothing is announced or nobody answers."""
    for ask in (_amazon, _google):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if (left := ask(base)) is not None:
                return max(0.0, left)
    return None


def _amazon(base: str) -> float | None:
    """IMDSv2: a token first, then `{"action": "terminate", "time": "2026-01-01T00:02:00Z"}` or 404."""
    token = _ask(f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    said = _ask(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    return datetime.fromisoformat(json.loads(said)["time"]).timestamp() - time.time()


def _google(base: str) -> float | None:
    said = _ask(f"{base}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return GOOGLE_SECONDS if said.strip() == "TRUE" else None


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        return str(answer.read(4096), "utf-8")


def watch(base: str, act: Callable[[float], None]) -> None:
    """Wait for the notice, then call `act` with the seconds left."""
    while (left := seconds_left(base)) is None:
        time.sleep(POLL_SECONDS)
    act(left)


def drain_this_node(seconds: float) -> None:
    """Tell Ray that this node goes: nothing new is placed on it, and what runs there is told."""
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2

    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False)
    context = ray.get_runtime_context()
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + seconds) * 1000)
    client = GcsClient(address=context.gcs_address)
    client.drain_node(context.get_node_id(), reason, "the cloud takes this machine", deadline_ms)
    ray.shutdown()


def main() -> int:
    """Watch, and drain once."""
    watch(os.environ.get(METADATA, EVERYWHERE), drain_this_node)
    return 0


if __name__ == "__main__":
    sys.exit(main())
