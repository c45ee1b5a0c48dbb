"""`ackpt resume URL`: commit what an earlier process staged on this machine and did not finish."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from ackpt.cli.command import Command, add_url, with_store
from ackpt.engine.restore import finish_staged
from ackpt.engine.store import Store
from ackpt.events import Committed, Event, Failed


def _add_arguments(parser: ArgumentParser) -> None:
    add_url(parser)
    parser.add_argument("--staging-dir", help="where the run's saver stages, if not in the default place")


def _run(arguments: Namespace) -> int:
    return with_store(arguments.url, partial(_resume, staging_dir=arguments.staging_dir))


async def _resume(store: Store, *, staging_dir: str | None) -> int:
    ended: list[Event] = []
    await finish_staged(store, staging_dir, subscribers=(ended.append,))
    committed = [each for each in ended if isinstance(each, Committed)]
    failed = [each for each in ended if isinstance(each, Failed)]
    for each in committed:
        print(f"{each.prefix} committed to {each.target}")
    for failure in failed:
        print(f"step {failure.step} failed: {failure.error}")
    if not committed and not failed:
        print(f"nothing to finish for {store.name}")
    return 1 if failed else 0


RESUME = Command(
    name="resume",
    help="commit what was staged on this machine and not finished",
    add_arguments=_add_arguments,
    run=_run,
)
