"""A driver in a process of its own: `python -m testing.chaos.driver SPEC.json`, so that it too can die.

SPEC holds `toy`, `fleet` (settings of FleetConfig) and `result`, the file the outcome is written to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rayscan.config import FleetConfig
from rayscan.errors import RayscanError
from rayscan.fleet.connect import Fleet
from rayscan.fleet.train import train
from rayscan.storage import Place
from testing.chaos.toy import Toy, set_store_patience, train_toy


def main(spec: dict[str, Any]) -> int:
    """Train; 0 if it came to its end, 1 if it ended with one of the four errors."""
    toy = Toy(**spec["toy"])
    result = Path(spec["result"])
    set_store_patience(toy)
    with Fleet(FleetConfig(**spec["fleet"]), Place(toy.out)) as fleet:
        try:
            outcome = train(fleet, train_toy, toy, name="toy", on_facts=lambda _: None)
        except RayscanError as error:
            result.write_text(json.dumps({"error": type(error).__name__, "text": str(error)}))
            return 1
    result.write_text(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
