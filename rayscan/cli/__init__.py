"""The `rayscan` command. Refuses mistakes in under two seconds: torch and Ray load when work starts."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from rayscan.cli.commands import COMMANDS as CORE
from rayscan.cli.studies import STUDIES
from rayscan.errors import ConfigError, RayscanError

COMMANDS = CORE | STUDIES
"""Name -> what runs it."""
USAGE = """usage: rayscan COMMAND ... (COMMAND --help tells more)

  demo                     cluster 1,797 handwritten digits, from pixels to report, in minutes
  run RECIPE --data DATA   images in, clusters and a report out; run it again to resume
  search RECIPE --data ... find settings without a label
  shard FOLDER OUT         pack a folder of images into WebDataset shards
  index DATA               look through images and say what is there
  doctor                   are the machines fit? --address asks every node of a Ray
  doctor DATA              say what is there and what is damaged; --against RUN compares every byte
  evaluate RUN             score a finished run against labels that came later
  predict RUN --data DATA  clusters of new images, by the model of a run
  transfer RUN --data DATA the clusters of a run judged on another labelled set
  report RUN               render the page again with other settings
  status RUN               what is done, what it took, what is left
  compare RUN RUN ...      a table with mean and deviation over seeds
  merge RUN                which clusters would join; --to C writes the result
  consensus RUN RUN ...    one grouping from several seeds, or from the heads of one run
  experiment NAME RECIPE   a table or figure of a paper on your images, over seeds
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for a failure, 2 for a mistake in the command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0 if given else 2
    name, rest = given[0], given[1:]
    if name == "--version":
        from rayscan import __version__

        sys.stdout.write(f"rayscan {__version__}\n")
        return 0
    command = COMMANDS.get(name)
    if command is None:
        sys.stderr.write(f"rayscan: no command {name!r}\n\n{USAGE}")
        return 2
    try:
        command(rest)
    except ConfigError as error:
        sys.stderr.write(f"rayscan {name}: {error}\n")
        return 2
    except RayscanError as error:
        sys.stderr.write(f"rayscan {name}: {error}\nresume with:\n  {resume_command(name, rest)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"\nstopped; resume with:\n  {resume_command(name, rest)}\n")
        return 130
    return 0


def resume_command(name: str, rest: Sequence[str]) -> str:
    """The command that goes on where this one stopped."""
    start = ["python", "-m", "rayscan.full_imagenet"] if name == "full_imagenet" else ["rayscan", name]
    return shlex.join([*start, *rest])
