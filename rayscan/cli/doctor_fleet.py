"""`rayscan doctor [--address A] [--out OUT]`: are the machines fit for work?"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace


def doctor_fleet(address: str | None, out: str | None) -> None:
    """Look at every node of a Ray, or at this machine alone; print; fail if something is wrong.

    Args:
        address: Ray to join; RAY_ADDRESS if not given.
        out: An --out that every node shall write and read.

    Raises:
        FleetError: something is wrong.
    """
    from rayscan.config import FleetConfig
    from rayscan.errors import FleetError
    from rayscan.fleet import doctor
    from rayscan.fleet.connect import Fleet
    from rayscan.storage import Place

    storage = None if out is None else Place(out)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")

    if joined := address or os.environ.get("RAY_ADDRESS"):
        with Fleet(FleetConfig(address=joined), storage or Place("."), say) as fleet:
            reports = doctor.inspect_nodes(fleet, storage)
            driver = replace(doctor.inspect_node(None, time.time()), name="this process")
            found = doctor.findings(reports, driver=driver)
    else:
        reports = [doctor.inspect_node(storage, time.time())]
        found = doctor.findings(reports, knows_ray=False)
    for line in [line for report in reports for line in report.lines(knows_ray=bool(joined))]:
        say(line)
    for line in [f"wrong: {line}" for line in found] or ["nothing wrong was found"]:
        say(line)
    if found:
        raise FleetError(
            "these machines are not fit",
            expected="no finding",
            got=f"{len(found)}, see above",
            where=joined or "this machine",
            fix="correct what is named; jobs and nodes want the same packages (requirements.lock)",
        )
