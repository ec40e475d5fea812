"""A retry budget that notes what Ray Train's controller has imported, where it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from rayscan.fleet.retry_budget import RetryBudget

NOTES = "RAYSCAN_TEST_CONTROLLER_NOTES"


class SpyBudget(RetryBudget):
    """Writes the state and whether torch is there, a line each time that it is told of a state."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.notes = Path(os.environ[NOTES])

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        super().after_controller_state_update(previous_state, current_state)
        with self.notes.open("a") as file:
            file.write(f"{type(current_state).__name__} {'torch' in sys.modules}\n")
