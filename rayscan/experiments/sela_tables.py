"""What the experiments on SeLa share: the settings of its runs."""

from collections.abc import Mapping
from typing import Any

from rayscan.experiments.base import fitting, same_as

SELA: Mapping[str, Any] = {
    "method": "sela",
    "sela.epochs": fitting("scan.epochs", "scan.head_epochs"),
    "sela.batch_size": fitting("scan.batch_size", "scan.head_batch_size"),
    "sela.views": same_as("pretext.views"),
    "sela.optimizer": fitting("scan.optimizer", "scan.head_optimizer"),
}
NOTES = (
    "The paper measures linear probes on ImageNet; here the clusters themselves are scored. Training starts "
    "from the pretext's weights, or heads train on its embeddings, with the epochs and the optimizer of scan."
)
