"""`python -m rayscan`: the `rayscan` command."""

from __future__ import annotations

import sys

from rayscan.cli import main

sys.exit(main())
