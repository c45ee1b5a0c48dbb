"""What a command of the `ackpt` command line is: its arguments, and a coroutine that does the work."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ackpt.engine.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Describe one command: `run` returns the exit status (0 fine, 1 something is wrong with the run)."""

    name: str
    help: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


def with_store(url: str, work: Callable[[Store], Awaitable[int]]) -> int:
    """Open the store at `url`, do `work` on an event loop, and close it."""

    async def run() -> int:
        store = Store(url)
        try:
            return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(run())


def add_url(parser: ArgumentParser) -> None:
    """Add the argument that every command on a run has."""
    parser.add_argument("url", help="the run: gs://bucket/run, s3://…, file:///…, or a local path")
