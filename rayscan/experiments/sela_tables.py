"""What the experiments on SeLa share: the settings of its runs."""

from collections.abc import Mapping
from typing import Any

from rayscan.experiments.base import same_as

SELA: Mapping[str, Any] = {
    "method": "sela",
    "sela.epochs": same_as("scan.epochs"),
    "sela.batch_size": same_as("scan.batch_size"),
    "sela.views": same_as("pretext.views"),
    "sela.optimizer": same_as("scan.optimizer"),
}
NOTES = (
    "The paper measures linear probes on ImageNet; here the clusters themselves are scored. Training starts "
    "from the pretext's weights with the epochs and the optimizer of scan."
)
