"""`ackpt gc URL`: what dead writers left in the store; a dry run unless told to delete."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import timedelta
from functools import partial

from ackpt.checkpoint.lease import EXPIRES, is_leased
from ackpt.checkpoint.store_clock import read_store_clock
from ackpt.checkpoint.sweep import find_orphans, remove_orphans
from ackpt.cli.command import Command, add_url, with_store
from ackpt.engine.store import Store
from ackpt.options import duration, written_size

_LONGEST_SECS = 100 * 365 * 24 * 3600.0


def _age(text: str) -> timedelta:
    try:
        secs = duration(text)
    except ValueError as error:
        raise ArgumentTypeError(f"expected {error}, got {text!r}") from None
    if secs > _LONGEST_SECS:
        raise ArgumentTypeError(f"expected an age of less than a hundred years, got {text!r}")
    return timedelta(seconds=secs)


def _add_arguments(parser: ArgumentParser) -> None:
    add_url(parser)
    parser.add_argument("--delete", action="store_true", help="delete what is listed (default: only list it)")
    parser.add_argument(
        "--older-than",
        type=_age,
        default=timedelta(days=1),
        metavar="AGE",
        help="leave what was touched within this time (default: 24h)",
    )


def _run(arguments: Namespace) -> int:
    return with_store(
        arguments.url, partial(_sweep, delete=arguments.delete, older_than=arguments.older_than)
    )


async def _sweep(store: Store, *, delete: bool, older_than: timedelta) -> int:
    backend = store.reliable()
    now = await read_store_clock(backend)
    if now is None:
        print(
            "the store does not tell the time to one who may not write, or to nobody: nothing counts as old"
        )
        return 0
    found = await find_orphans(backend, older_than=older_than, now=now)
    for each in found:
        if each.upload_id is None:
            print(f"{each.key}  {written_size(each.size)}  ({each.reason})")
        else:
            print(f"upload {each.upload_id} to {each.key}  size not known  ({each.reason})")
    if delete:
        await remove_orphans(backend, found)
    done = "deleted" if delete else "found; nothing was deleted, --delete does it"
    objects = [each.size for each in found if each.upload_id is None]
    uploads = f" and {len(found) - len(objects)} open uploads" if len(objects) < len(found) else ""
    print(f"{len(found)} orphans, {written_size(sum(objects))}{uploads}: {done}")
    if await is_leased(backend, now=now):
        print(
            "a saver is at work, or was within the last "
            f"{EXPIRES.total_seconds() / 60:.0f} minutes: what it may be sending is not looked at"
        )
    return 0


GC = Command(
    name="gc", help="find, and delete, what dead writers left", add_arguments=_add_arguments, run=_run
)
