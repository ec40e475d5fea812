"""Embeddings that the user has already: files of vectors, matched with images and imported as unit rows.

`opening` finds the files, `formats` reads their heads and rows, `vectors` is the matrix, `matching` says
which row belongs to which image, `file_parts` and `assembly` make an embed artifact of it, `index_tables`
makes an index where there are no pictures. `identity` hashes the content. Nothing here needs torch.
"""

from rayscan.embeddings.assembly import assemble
from rayscan.embeddings.file_parts import FilePart, import_part, parts_of
from rayscan.embeddings.identity import (
    DigestTask,
    content_identity,
    digest_tasks,
    file_digests,
    hash_piece,
    identity_of,
)
from rayscan.embeddings.index_tables import index_of_vectors, tables_of
from rayscan.embeddings.matching import By, Match, match_rows
from rayscan.embeddings.opening import open_vectors
from rayscan.embeddings.vectors import Vectors

__all__ = [
    "By",
    "DigestTask",
    "FilePart",
    "Match",
    "Vectors",
    "assemble",
    "content_identity",
    "digest_tasks",
    "file_digests",
    "hash_piece",
    "identity_of",
    "import_part",
    "index_of_vectors",
    "match_rows",
    "open_vectors",
    "parts_of",
    "tables_of",
]
