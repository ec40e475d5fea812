"""Commands that look and change nothing: at machines, at data, at a run."""

from __future__ import annotations

import sys

import tyro

from rayscan.cli.arguments import DoctorArguments, StatusArguments


def doctor_command(rest: list[str]) -> None:
    """`rayscan doctor [--address A] [--out OUT]`, or `rayscan doctor DATA [--against RUN]`."""
    asked = tyro.cli(DoctorArguments, args=rest, prog="rayscan doctor")
    if asked.data is None:
        from rayscan.cli.doctor_fleet import doctor_fleet

        doctor_fleet(asked.address, asked.out)
        return
    from rayscan.cli.commands import absolute
    from rayscan.cli.doctor_data import doctor_data

    doctor_data(absolute(asked.data) or "", asked.against, asked.address)


def status_command(rest: list[str]) -> None:
    """`rayscan status RUN`."""
    asked = tyro.cli(StatusArguments, args=rest, prog="rayscan status")
    from rayscan.cli.status import status_lines
    from rayscan.run import Run

    sys.stdout.write("".join(f"{line}\n" for line in status_lines(Run(asked.run))))
