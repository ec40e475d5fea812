"""Embeddings without pictures: `embeddings:PATH` in the place of images, indexed as a row for each vector."""

from __future__ import annotations

from rayscan.artifacts import Artifact, Draft
from rayscan.data.table import Split
from rayscan.embeddings.identity import Map, content_identity
from rayscan.embeddings.index_tables import index_of_vectors
from rayscan.embeddings.opening import open_vectors
from rayscan.embeddings.vectors import Vectors
from rayscan.errors import DataError
from rayscan.spaces import ALONE


def vectors_alone(data: str | None, eval_data: str | None) -> tuple[Split, Vectors] | None:
    """The split and the vectors of a run without pictures; None if there are pictures.

    Args:
        data: Address of the train split.
        eval_data: Address of the eval split.

    Raises:
        ConfigError: the words name no file.
        DataError: both splits are named, nothing is there, or a file cannot be used.
    """
    is_train = data is not None and data.startswith(ALONE)
    is_eval = eval_data is not None and eval_data.startswith(ALONE)
    if not is_train and not is_eval:
        return None
    if data is not None and eval_data is not None:
        raise DataError(
            "embeddings without pictures make a single split",
            expected="one address",
            got=f"{data} and {eval_data}",
            fix="pass pictures too, as --data and --eval-data, or all embeddings as one split",
        )
    text = (data or eval_data or "").removeprefix(ALONE)
    return ("train" if is_train else "eval"), open_vectors(text)


def index_alone(split: Split, vectors: Vectors, draft: Draft, each: Map) -> Artifact:
    """The index of a run without pictures.

    Args:
        split: Of all rows.
        vectors: As `vectors_alone` found them.
        draft: The attempt of stage index.
        each: Hashes pieces of the files, such as `Fleet.map`.

    Raises:
        DataError: a file changed meanwhile, or keys do not tell the rows apart.
    """
    return index_of_vectors(vectors, draft, content_identity(vectors, each), split)
