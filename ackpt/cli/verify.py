"""`ackpt verify URL`: does the store still hold what the manifests promise?"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import aclosing
from functools import partial

from ackpt.checkpoint.verify import verify_run
from ackpt.cli.command import Command, add_url, with_store
from ackpt.engine.store import Store
from ackpt.options import written_size


def _add_arguments(parser: ArgumentParser) -> None:
    add_url(parser)
    parser.add_argument("--deep", action="store_true", help="read every byte, too")


def _run(arguments: Namespace) -> int:
    return with_store(arguments.url, partial(_verify, deep=arguments.deep))


async def _verify(store: Store, *, deep: bool) -> int:
    checked = damaged = 0
    async with aclosing(verify_run(store.reliable(), deep=deep)) as verdicts:
        async for verdict in verdicts:
            read = f", {written_size(verdict.checked_bytes)} read" if deep else ""
            state = "damaged" if verdict.problems else "ok"
            print(f"{verdict.prefix}  {state}  {written_size(verdict.size)}{read}")
            for problem in verdict.problems:
                print(f"  {problem}")
            checked += 1
            damaged += bool(verdict.problems)
    if not checked:
        print(f"no committed checkpoint in {store.name}; nothing was verified")
    return 0 if checked and not damaged else 1


VERIFY = Command(
    name="verify",
    help="compare the store with what the manifests promise",
    add_arguments=_add_arguments,
    run=_run,
)
