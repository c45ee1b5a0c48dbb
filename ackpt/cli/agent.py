"""`ackpt agent STAGING`: the uploader process, which sends what a trainer stages in that folder."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

from ackpt.cli.command import Command
from ackpt.engine.agent.serve import Agent
from ackpt.engine.agent.start import detached
from ackpt.options import duration


def _secs(text: str) -> float:
    try:
        return duration(text)
    except ValueError as error:
        raise ArgumentTypeError(f"expected {error}, got {text!r}") from None


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("staging", metavar="STAGING", help="the folder in which the run stages")
    parser.add_argument("--target", metavar="URL", help="the run's URL: finish what lies there already")
    parser.add_argument(
        "--grace",
        type=_secs,
        default=10.0,
        metavar="TIME",
        help="leave when there has been no trainer for so long (default: 10s)",
    )
    parser.add_argument("--stay", action="store_true", help="serve one trainer after another, until SIGTERM")
    parser.add_argument("--detach", action="store_true", help="return as soon as a trainer may come")


def _run(arguments: Namespace) -> int:
    folder = Path(arguments.staging).absolute()

    def run(ready: Callable[[], None]) -> None:
        agent = Agent(folder, target=arguments.target, grace_secs=arguments.grace, stay=arguments.stay)
        asyncio.run(agent.run(ready))

    if arguments.detach:
        return detached(folder, run)
    run(lambda: print(f"serving {folder}", flush=True))
    return 0


AGENT = Command(
    name="agent",
    help="send what a trainer on this machine stages, from a process of its own",
    add_arguments=_add_arguments,
    run=_run,
)
