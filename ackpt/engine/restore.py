"""`ackpt.restore`: from a run's URL to a local checkpoint, from any thread, in one call."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from ackpt.checkpoint.catalog import list_entries
from ackpt.checkpoint.fence import read_claim
from ackpt.checkpoint.manifest import split_prefix
from ackpt.checkpoint.restore import restore_checkpoint
from ackpt.checkpoint.retention import KeepAll
from ackpt.checkpoint.staging import StagingFolder, staging_folder
from ackpt.engine.agent.call import finish
from ackpt.engine.background import IO_WORKERS
from ackpt.engine.heartbeat import Heartbeat
from ackpt.engine.limits import Limits
from ackpt.engine.log import log_event
from ackpt.engine.overlap import Queue
from ackpt.engine.pipeline import Pipeline
from ackpt.engine.recover import finish_leftovers
from ackpt.engine.retain import Retainer
from ackpt.engine.route import Direct
from ackpt.engine.store import Store
from ackpt.engine.threads.loop import LoopThread
from ackpt.errors import InvalidOptionError, StagingLockedError, StorageError, explain
from ackpt.events import Event

_log = logging.getLogger(__name__)


def restore(
    target: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    step: int | None = None,
    staging_dir: str | os.PathLike[str] | None = None,
    fallback: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> str | None:
    """Fetch the newest checkpoint of the run at `target` into `folder`, and return its prefix there.

    Call it before training: `folder` is the `model_dir` (or `checkpoint_dir`) that TensorFlow
    restores from. What an earlier process on this machine staged and did not commit is committed
    first. Every file is verified; a damaged checkpoint is passed over for the next older one, with
    a warning. None means that the run has no checkpoint at all, and never that it has a bad one.

    With `step`, that checkpoint and no other. `staging_dir` is where the run's saver stages, if
    not in the default place. With the `fallback` of the run's saver, what lies there counts, too:
    while `target` is down, or where it is newer. `limits` is shared with whoever is given the same
    (None: those of the process). Blocks until it is done; may be called where an event loop runs,
    which it holds up, and then waits for no connection and no memory of other runs.

    Raises:
        NotFoundError: `step` is not committed.
        CorruptCheckpointError: checkpoints are there, and none of them is whole.
        InvalidURLError, InvalidOptionError, UnknownSchemeError: the URL is of no use, or `folder` is one.
        BucketNotFoundError, PermissionDeniedError, StorageError: the store cannot be read.
    """
    if "://" in os.fspath(folder):
        raise InvalidOptionError(
            "restore: expected a local folder to fetch into, got a URL "
            f"({os.fspath(folder).partition('://')[0]}://…); give a path on this machine"
        )
    apart = _loop_runs_here()
    store = Store(target, limits, apart=apart)
    second = None if fallback is None else Store(fallback, limits, apart=apart)

    async def run() -> Path | None:
        try:
            if second is not None and await _is_better(second, store):
                return await restore_checkpoint(second.backend, Path(folder), second.transfer(), step=step)
            staging = StagingFolder(staging_folder(store.url, staging_dir))
            if await asyncio.to_thread(staging.is_closed):
                _log.warning(
                    "what is staged of %s in %s is another user's; only what is committed is restored",
                    store.name,
                    staging.folder,
                )
            elif not await finish_staged(store, staging.folder):
                _log.info("a saver is at work on %s; only what it has committed is restored", store.name)
            return await restore_checkpoint(store.backend, Path(folder), store.transfer(), step=step)
        finally:
            await store.aclose()
            if second is not None:
                await second.aclose()

    async def leave() -> None:
        """Leave at once: the caller's thread has ended, nobody waits for the answer."""

    thread = LoopThread(name=f"ackpt restore {store.name}", workers=IO_WORKERS, on_exit=leave)
    try:
        prefix = thread.call(run())
    finally:
        thread.stop()
    return None if prefix is None else str(prefix)


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _at_once(prefix: str) -> None:
    """Hold nothing back: there are no listeners here."""


async def _is_better(fallback: Store, first: Store) -> bool:
    """Tell whether the fallback has a newer checkpoint than the first store, or the only one to be had."""
    there = await list_entries(fallback.reliable())
    if not there:
        return False
    try:
        newest = max(await list_entries(first.reliable()), default=None)
    except StorageError as error:
        _log.warning(
            "%s is down (%s): step %d is restored from %s",
            first.name,
            explain(error),
            there[-1].step,
            fallback.name,
        )
        return True
    return newest is None or there[-1].step > newest.step


async def finish_staged(
    store: Store, folder: Path, *, subscribers: Sequence[Callable[[Event], object]] = ()
) -> bool:
    """Commit what an earlier process staged in `folder`; False: another saver is at work on it right now.

    It is committed under the claim it was staged under; the run is not taken over from anybody.
    What fails stays staged. `subscribers` are called with every event.

    Raises:
        StorageError: the store cannot be read.
        StagingError: the folder cannot be used.
    """

    def publish(event: Event) -> None:
        for subscriber in (log_event, *subscribers):
            subscriber(event)

    staging = StagingFolder(folder)
    if not staging.folder.is_dir() or not await asyncio.to_thread(_names, staging):
        return True
    for last_try in (False, True):
        try:
            await asyncio.to_thread(staging.lock)
            break
        except StagingLockedError:
            if not last_try and await finish(folder):
                return True
    else:
        return False
    try:
        await finish_in(store, staging, publish)
    finally:
        staging.unlock()
    return True


async def finish_in(store: Store, staging: StagingFolder, publish: Callable[[Event], None]) -> None:
    """Commit what lies in `staging`, which the caller has locked; what fails stays there.

    Raises:
        StorageError: the store cannot be read.
    """
    async with Heartbeat(store, writer=uuid.uuid4().hex):
        for name in sorted(await asyncio.to_thread(_names, staging)):
            await _finish_name(store, staging, name, publish)


async def _finish_name(
    store: Store, staging: StagingFolder, name: str, publish: Callable[[Event], None]
) -> None:
    retainer = Retainer(KeepAll(), name=name)
    await retainer.load(store.reliable())
    pipeline = Pipeline(store, staging, Direct(store, retainer, _at_once), overlap=Queue(1), publish=publish)
    claim = await read_claim(store.reliable())
    if claim is None and retainer.newest is None:
        _log.warning(
            "nothing of this run is in %s; what is staged in %s was left as it is: check the URL, and its "
            "options (an endpoint)",
            store.name,
            staging.folder,
        )
        return
    await finish_leftovers(pipeline, staging, name=name, newest=retainer.newest, claim=claim)
    await retainer.catch_up_state(store.reliable())


def _names(staging: StagingFolder) -> set[str]:
    """Return the names of the checkpoints of which some lie whole in `staging`."""
    states = [save.read() for save in staging.saves()]
    return {split_prefix(state.prefix)[0] for state in states if state is not None and state.staged}
