"""Refuse addresses that carry credentials before a job is sent: Ray keeps its command, for all to read."""

from __future__ import annotations

import re
import sys

from rayscan.errors import ConfigError
from rayscan.storage import refuse_secrets

try:
    for argument in sys.argv[1:]:
        for uri in re.findall(r"\w+://[^,\s]*", argument):
            refuse_secrets(uri)
except ConfigError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)
