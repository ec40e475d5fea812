"""Ray's fake provider, with a place of its own for each node's uploaded code.

On one machine all nodes share the folder of the session, and each unpacks an upload there anew: under the
feet of workers that import from it. Nodes of a real cluster share no folder.
"""

from __future__ import annotations

from typing import Any

from ray._private import ray_constants
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider

PLAIN = ray_constants.DEFAULT_RUNTIME_ENV_DIR_NAME


class NodesApart(FakeMultiNodeProvider):
    """Starts a raylet on this machine for every node that the autoscaler wants."""

    def _create_node_with_resources_and_labels(self, *arguments: Any) -> None:
        with self.lock:
            ray_constants.DEFAULT_RUNTIME_ENV_DIR_NAME = f"{PLAIN}-{self._next_node_id + 1}"
            try:
                super()._create_node_with_resources_and_labels(*arguments)
            finally:
                ray_constants.DEFAULT_RUNTIME_ENV_DIR_NAME = PLAIN
