"""Everything on the embedding matrix, in plain NumPy and faiss: exact neighbors over shards, k-means."""

from __future__ import annotations

import os

# Read by faiss's OpenMP once, when it loads. Threads that spin while they wait make a search cost 1.4 to 1.8
# times as much. A value that the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
