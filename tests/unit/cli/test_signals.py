"""SIGTERM and SIGHUP end a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys, time
from rayscan import cli
from rayscan.cli.arguments import Command

def wait(*, out: str) -> None:
    '''Wait.

    Args:
        out: Anything.
    '''
    try:
        sys.stdout.write("ready\\n")
        sys.stdout.flush()
        time.sleep(60)
    finally:
        time.sleep(0.5)
        sys.stdout.write("cleaned up\\n")

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for jobs behind them
signal.signal(signal.SIGHUP, signal.SIG_IGN if {ignored} else signal.SIG_DFL)  # nohup ignores it, too
cli.COMMANDS["demo"] = Command(wait)
sys.exit(cli.main(["demo", "--out", "a b"]))
"""


def started(*, ignored: bool = False) -> subprocess.Popen[str]:
    """A command that waits, past its first line."""
    program = PROGRAM.format(ignored=ignored)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", program], text=True, **pipes)  # type: ignore[call-overload]
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_the_line_that_resumes_and_the_status(number: signal.Signals, status: int) -> None:
    child = started()
    os.kill(child.pid, number)
    said, told = child.communicate(timeout=60)
    assert child.returncode == status
    assert said == "cleaned up\n"
    assert "stopped; resume with:\n  rayscan demo --out 'a b'\n" in told and "Traceback" not in told


def test_a_second_signal_does_not_break_the_clean_up() -> None:
    child = started()
    os.kill(child.pid, signal.SIGTERM)
    try:
        child.wait(0.3)
    except subprocess.TimeoutExpired:
        os.kill(child.pid, signal.SIGTERM)
    said, _ = child.communicate(timeout=60)
    assert (child.returncode, said) == (143, "cleaned up\n")


def test_nohup_is_heard() -> None:
    child = started(ignored=True)
    os.kill(child.pid, signal.SIGHUP)
    os.kill(child.pid, signal.SIGTERM)
    child.communicate(timeout=60)
    assert child.returncode == 143
