"""What timm knows of a network that the catalog does not list, and which files hold its weights.

timm and torch are imported for those networks alone: what is in the catalog is found in a moment.
"""

from __future__ import annotations

import re
from dataclasses import replace

from rayscan.catalog import CATALOG, Pretrained
from rayscan.errors import ConfigError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which timm keeps weights in a repository, the first there is."""
UNKNOWN = "not known"
IMAGENET = re.compile(r"in(1|12|21|22)k")


def described(entry: Pretrained) -> Pretrained:
    """An entry with repository, licence and training filled in from timm, where the catalog has none.

    Raises:
        ConfigError: timm does not know the model, or has no weights of it on the hub.
    """
    if entry.name in CATALOG:
        return entry
    from rayscan.nets.timm_backbone import timm_config

    config = timm_config(entry.model)
    if not config.hf_hub_id:
        raise ConfigError(
            "timm has no weights of this model on the hub",
            expected="a name of timm.list_pretrained()",
            got=entry.model,
            where=entry.name,
            fix=f"pass a file of your own: --features checkpoint:PATH --pretext.backbone timm/{entry.model}",
        )
    with_labels = bool(config.num_classes) and IMAGENET.search(config.tag or "") is not None
    return replace(
        entry,
        repo=config.hf_hub_id,
        licence=entry.licence or config.license or UNKNOWN,
        trained_with=entry.trained_with or ("labels of ImageNet" if with_labels else None),
    )


def weight_files(entry: Pretrained) -> tuple[str, ...]:
    """Names of the file of weights in the entry's repository, the first that is there."""
    if entry.name in CATALOG:
        return WEIGHT_FILES
    from rayscan.nets.timm_backbone import timm_config

    name = timm_config(entry.model).hf_hub_filename
    return (name,) if name else WEIGHT_FILES
