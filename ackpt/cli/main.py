"""The entry point of the `ackpt` command: pick a command, run it, turn errors into a line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from ackpt.cli.agent import AGENT
from ackpt.cli.gc import GC
from ackpt.cli.ls import LS
from ackpt.cli.pin import PIN, UNPIN
from ackpt.cli.pull import PULL
from ackpt.cli.resume import RESUME
from ackpt.cli.verify import VERIFY
from ackpt.errors import AckptError, InvalidOptionError, InvalidURLError, MissingDependencyError

_COMMANDS = (LS, PULL, PIN, UNPIN, VERIFY, GC, RESUME, AGENT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 when all is well, 1 when something is wrong, 2 for bad usage."""
    parser = argparse.ArgumentParser(prog="ackpt", description="Look after checkpoints in cloud storage.")
    parser.add_argument("--version", action="version", version=f"ackpt {version('ackpt')}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        each = commands.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(each)
        each.set_defaults(run=command.run)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("ackpt").setLevel(logging.DEBUG if chosen.verbose else logging.WARNING)
    try:
        status: int = chosen.run(chosen)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has read enough (`ackpt ls … | head`); what is still buffered goes nowhere, or
        # the interpreter would complain of it at its end. https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except AckptError as error:
        print(f"ackpt {chosen.command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidURLError | InvalidOptionError | MissingDependencyError) else 1
    return status
