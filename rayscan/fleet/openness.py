"""Whether a Ray lets in whoever comes."""

from __future__ import annotations

import urllib.error
import urllib.request

OPEN = (
    "warning: the joined Ray demands no token: whoever reaches its ports runs code as its user "
    "(docs/howto/cluster.md)"
)
LOOK_SECONDS = 2.0


def is_open() -> bool:
    """Whether the joined Ray answers without a token.

    Its dashboard is asked, as a stranger would; where it does not answer, what this process needed counts.
    """
    import ray
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    url = ray._private.worker.global_worker.node.webui_url
    if not is_token_auth_enabled():
        return True
    if not url:
        return False
    try:
        with urllib.request.urlopen(f"http://{url}/api/version", timeout=LOOK_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
