"""A Ray that stands while many commands join it: starting one takes longer than most of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CPUS = 4
END_SECONDS = 60.0
PROGRAM = """
import sys
import ray
from rayscan.fleet.security import start_local_ray
start_local_ray(num_cpus=int(sys.argv[1]), include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@contextmanager
def standing_ray() -> Iterator[dict[str, str]]:
    """What to set in the environment of a command, so that it joins."""
    assert "RAY_ADDRESS" not in os.environ
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(CPUS)], **pipes) as process:
        assert process.stdin is not None and process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("127.0.0.1:"), address
        yield {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"}
        process.stdin.close()
        assert process.wait(END_SECONDS) == 0
