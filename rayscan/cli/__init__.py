"""The `rayscan` command. Refuses mistakes in under two seconds: torch and Ray load when work starts."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Sequence

from rayscan.cli import apply, commands, data, results, serve, signals, weights
from rayscan.cli.arguments import (
    HELP,
    Command,
    experiment_choices,
    format_choices,
    network_choices,
    recipe_choices,
)
from rayscan.errors import ConfigError, RayscanError

COMMANDS: dict[str, Command] = {
    "demo": Command(commands.demo, recipe="digits"),
    "run": Command(commands.run, recipe_word=0, choices=recipe_choices),
    "search": Command(commands.search, recipe_word=0, choices=recipe_choices),
    "fetch": Command(weights.fetch, choices=network_choices),
    "shard": Command(data.shard),
    "index": Command(data.index),
    "doctor": Command(data.doctor),
    "status": Command(results.status),
    "evaluate": Command(commands.evaluate),
    "predict": Command(commands.predict),
    "transfer": Command(commands.transfer),
    "report": Command(commands.report),
    "apply": Command(apply.apply),
    "serve": Command(serve.serve),
    "export": Command(results.export, choices=format_choices),
    "view": Command(results.view),
    "compare": Command(results.compare),
    "howmany": Command(results.howmany),
    "merge": Command(results.merge),
    "consensus": Command(results.consensus),
    "experiment": Command(commands.experiment, recipe="custom", recipe_word=1, choices=experiment_choices),
    "full_imagenet": Command(commands.run, recipe="imagenet", prog="python -m rayscan.full_imagenet"),
}
"""Name -> command; the usage is made from it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words of the command line; those of this process if not given.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a mistake in the command, 130 when interrupted,
        143 and 129 after SIGTERM and SIGHUP.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in HELP:
        sys.stdout.write(usage())
        return 0 if given else 2
    name, rest = given[0], given[1:]
    if name == "--version":
        from rayscan.version import __version__

        sys.stdout.write(f"rayscan {__version__}\n")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; perhaps you meant {near[0]}" if near else ""
        sys.stderr.write(f"rayscan: no command {name!r}{hint}\n\n{usage()}")
        return 2
    command = COMMANDS[name]
    prog = command.prog or f"rayscan {name}"
    signals.end_as_interrupted()
    try:
        command(prog, rest)
    except ConfigError as error:
        sys.stderr.write(f"rayscan {name}: {error}\n")
        return 2
    except RayscanError as error:
        sys.stderr.write(f"rayscan {name}: {error}\nresume with:\n  {prog} {shlex.join(rest)}\n")
        return 1
    except KeyboardInterrupt as error:
        sys.stderr.write(f"\nstopped; resume with:\n  {prog} {shlex.join(rest)}\n")
        return signals.exit_status(error)
    return 0


def usage() -> str:
    """Return the list of commands: the words each one takes, and the first line of its docstring."""
    lines = [
        (f"{name} {command.words}".rstrip(), command.summary)
        for name, command in COMMANDS.items()
        if not command.prog
    ]
    width = max(len(words) for words, _ in lines)
    listed = "".join(f"  {words:{width}}  {summary}\n" for words, summary in lines)
    return f"usage: rayscan COMMAND ... (COMMAND --help tells more)\n\n{listed}"
