import subprocess
import sys

import pytest

from rayscan.data.freed_memory import keep_freed_memory

TOUCHED = """
import resource, sys, threading
import numpy as np
from rayscan.data.freed_memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def batches():
    for _ in range(3):
        before = faults()
        block = np.empty(100_000_000, np.uint8)
        block[::4096] = 1
        del block
        print(faults() - before)

if sys.argv[1] == "keep":
    keep_freed_memory()
if sys.argv[2] == "thread":
    thread = threading.Thread(target=batches)
    thread.start()
    thread.join()
else:
    batches()
"""


def faults_of_batches(how: str, where: str) -> list[int]:
    """Page faults of the first, second and third time 100 MB are asked for, written and freed."""
    command = [sys.executable, "-c", TOUCHED, how, where]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(line) for line in said.split()]


@pytest.mark.parametrize("where", ["main", "thread"])
def test_memory_of_the_last_batch_is_used_again(where: str) -> None:
    if not keep_freed_memory():
        pytest.skip("this C library cannot be told to keep memory")
    first, *later = faults_of_batches("keep", where)
    assert first >= 40  # 100 MB in huge pages of 2 MB
    assert max(later) < first / 4
    assert min(faults_of_batches("default", where)) >= 40
