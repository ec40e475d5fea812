"""Machines and workers: the only room that knows Ray."""

import os

# Read when Ray is imported, which the modules of this room do. On an autoscaling cluster the first demand
# of any kind is infeasible for a while, which Ray would print as an error.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "infeasible resource requests")
