"""`ackpt pin URL STEP` and `ackpt unpin URL STEP`: keep a checkpoint whatever the retention says."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from ackpt.checkpoint.hold import pin, unpin
from ackpt.cli.command import Command, add_url, with_store
from ackpt.engine.store import Store


def _add_arguments(parser: ArgumentParser) -> None:
    add_url(parser)
    parser.add_argument("step", type=int, help="the step of a committed checkpoint")


def _add_pin_arguments(parser: ArgumentParser) -> None:
    _add_arguments(parser)
    parser.add_argument("--reason", default="", help="a note for whoever finds the pin")


async def _pin(store: Store, *, step: int, reason: str) -> int:
    for prefix in await pin(store.reliable(), step, reason=reason):
        print(f"{prefix} is pinned")
    return 0


async def _unpin(store: Store, *, step: int) -> int:
    found = await unpin(store.reliable(), step)
    for prefix in found:
        print(f"{prefix} is no longer pinned")
    if not found:
        print(f"step {step} was not pinned")
    return 0


def _run_pin(arguments: Namespace) -> int:
    return with_store(arguments.url, partial(_pin, step=arguments.step, reason=arguments.reason))


def _run_unpin(arguments: Namespace) -> int:
    return with_store(arguments.url, partial(_unpin, step=arguments.step))


PIN = Command(
    name="pin",
    help="keep a checkpoint whatever the retention says",
    add_arguments=_add_pin_arguments,
    run=_run_pin,
)
UNPIN = Command(
    name="unpin",
    help="let the retention decide about a checkpoint again",
    add_arguments=_add_arguments,
    run=_run_unpin,
)
