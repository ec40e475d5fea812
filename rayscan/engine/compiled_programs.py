"""Where torch.compile keeps its programs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rayscan.processor import kind

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def use_private_cache() -> Path:
    """Keep compiled programs where no other user can put one, and no processor of another kind.

    Torch's default lies in the shared /tmp, and to import parts of torch writes it into the environment.

    Returns:
        The folder, mode 700; that of the environment if the user names one there.
    """
    # here, as it takes a second that only what compiles has to spend
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    named = os.environ.get(CACHE_VARIABLE)
    if named and named != default_cache_dir():
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path("~/.cache").expanduser()) / "rayscan" / "torchinductor" / kind()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError:  # no home to write to
        folder = Path(tempfile.mkdtemp(prefix="rayscan-torchinductor-"))
    os.environ[CACHE_VARIABLE] = str(folder)
    return folder
