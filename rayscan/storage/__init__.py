"""The one door to storage: bytes in and out of local paths and object stores. Knows nothing of stages.

`place` writes and reads results, `files` reads what users have, `filesystems` understands addresses, `policy`
says how often what does not answer is asked again.
"""

from rayscan.storage.files import (
    MISSING,
    FileInfo,
    RangeStream,
    RemoteFile,
    kind_of,
    names_in,
    open_file,
    policy_of,
    read,
    stat,
)
from rayscan.storage.filesystems import (
    is_local,
    join,
    local_path,
    locate,
    refuse_malformed,
    refuse_secrets,
    resolve,
    split_query,
    with_query,
)
from rayscan.storage.place import Place, split_uri
from rayscan.storage.policy import DEADLINE_VARIABLE, ONCE, RetryPolicy, default_policy, retry

__all__ = [
    "DEADLINE_VARIABLE",
    "MISSING",
    "ONCE",
    "FileInfo",
    "Place",
    "RangeStream",
    "RemoteFile",
    "RetryPolicy",
    "default_policy",
    "is_local",
    "join",
    "kind_of",
    "local_path",
    "locate",
    "names_in",
    "open_file",
    "policy_of",
    "read",
    "refuse_malformed",
    "refuse_secrets",
    "resolve",
    "retry",
    "split_query",
    "split_uri",
    "stat",
    "with_query",
]
