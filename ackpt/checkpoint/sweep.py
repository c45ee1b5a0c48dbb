"""The sweep: find what dead writers of a run left in its store, and remove it.

Only what an intent or a tombstone of ours accounts for, open uploads of checkpoints with one, and
leases and holds of savers and readers that have not renewed them, and what the clock was read by;
all of it old by the store's clock;
never a committed checkpoint, an object of somebody else's, or what a living saver is sending.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal

from ackpt.backends.base import Backend, MultipartBackend, ObjectInfo, UploadInfo
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.delete import TOMBSTONE_SUFFIX
from ackpt.checkpoint.hold import READER_EXPIRES, is_over
from ackpt.checkpoint.intent import SUFFIX as INTENT_SUFFIX
from ackpt.checkpoint.lease import KEY as LEASE_KEY
from ackpt.checkpoint.lease import is_leased, writer_in
from ackpt.checkpoint.manifest import SUFFIX as MANIFEST_SUFFIX
from ackpt.checkpoint.manifest import Manifest, split_prefix
from ackpt.checkpoint.store_clock import is_clock, read_store_clock
from ackpt.errors import CorruptCheckpointError, NotFoundError
from ackpt.transfer.deletion import delete_all
from ackpt.transfer.fan_out import fan_out

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """Name one thing to remove: an object, or an open upload (then `upload_id` is set).

    `account` is the object by which it is known to be ours, as it was found.
    """

    kind: Literal["object", "upload"]
    key: str
    size: int
    reason: str
    account: ObjectInfo
    upload_id: str | None = None


async def find_orphans(
    backend: Backend, *, older_than: timedelta, now: datetime | None = None
) -> list[Orphan]:
    """Return what dead writers left and nobody touched for `older_than`; removes nothing.

    While a saver holds the lease, only checkpoints below the newest committed step count, and of these
    none that it says it is sending: a training may have gone back. A reader's hold counts only when it
    keeps nothing any more, however short `older_than` is. Of a deletion that was cut short, what its
    tombstone names.
    `now` is the store's time, asked for where it is not given; where the store tells no times nothing
    is old.

    Raises:
        StorageError: the store cannot be listed, or its clock not be read.
    """
    async with aclosing(backend.list()) as listing:
        objects = [info async for info in listing]
    uploads: list[UploadInfo] = []
    if isinstance(backend, MultipartBackend):
        async with aclosing(backend.list_uploads()) as listing_uploads:
            uploads = [info async for info in listing_uploads]
    moment = await read_store_clock(backend) if now is None else now
    if moment is None:
        return []
    leased = await is_leased(backend, now=moment)
    before = moment - older_than
    readers_before = min(before, moment - READER_EXPIRES)
    found = orphans(objects, uploads, leased=leased, before=before, readers_before=readers_before)
    found = await _named_by_tombstones(backend, found)
    return await _not_of_the_living(backend, found) if leased else found


async def _named_by_tombstones(backend: Backend, found: Sequence[Orphan]) -> list[Orphan]:
    """Leave out what a tombstone does not name: what was adopted, or is somebody else's."""
    tombstones = sorted({each.account.key for each in found if each.account.key.endswith(TOMBSTONE_SUFFIX)})
    names = await fan_out([partial(_names_in, backend, key) for key in tombstones], limit=_AT_ONCE)
    named = dict(zip(tombstones, names, strict=True))

    def let_go(orphan: Orphan) -> bool:
        keys = named.get(orphan.account.key)
        return keys is None or orphan.key in keys or (orphan.kind == "upload" and bool(keys))

    return [each for each in found if let_go(each)]


async def _names_in(backend: Backend, tombstone: str) -> frozenset[str]:
    """Return the keys that a tombstone lets go of, its own too; none where it cannot be trusted."""
    key = tombstone.removesuffix(TOMBSTONE_SUFFIX) + MANIFEST_SUFFIX
    try:
        buried = Manifest.from_json(await read_object(backend, tombstone), key=key)
    except (NotFoundError, CorruptCheckpointError) as error:
        _log.debug("%s is left alone: %s", tombstone, error)
        return frozenset()
    return frozenset({tombstone, *(each.key for each in buried.objects if not each.adopted)})


async def _not_of_the_living(backend: Backend, found: Sequence[Orphan]) -> list[Orphan]:
    living = await writer_in(backend, LEASE_KEY)
    intents = sorted({each.account.key for each in found if each.account.key.endswith(INTENT_SUFFIX)})
    writers = await fan_out([partial(writer_in, backend, key) for key in intents], limit=_AT_ONCE)
    spared = {key for key, writer in zip(intents, writers, strict=True) if writer == living}
    return [each for each in found if each.account.key not in spared]


def orphans(
    objects: Sequence[ObjectInfo],
    uploads: Iterable[UploadInfo],
    *,
    leased: bool,
    before: datetime,
    readers_before: datetime,
) -> list[Orphan]:
    """Decide, from a listing, what is an orphan: no younger than `before` (readers' holds have their own).

    A key that is no plain path is nobody's: a listing is not trusted to stay inside the run.
    """
    by_key = {info.key: info for info in objects if _is_plain(info.key)}
    keys = sorted(by_key)
    uploads = sorted((each for each in uploads if _is_plain(each.key)), key=lambda each: each.key)
    upload_keys = [each.key for each in uploads]
    committed = {_step(key) for key in by_key if _prefix(key, MANIFEST_SUFFIX) is not None}
    newest = max(committed, default=-1)
    found: list[Orphan] = []
    for key in keys:
        prefix = _prefix(key, INTENT_SUFFIX) or _prefix(key, TOMBSTONE_SUFFIX)
        if prefix is None or (leased and _step(key) >= newest):
            continue
        mine = [by_key[each] for each in keys[_below(prefix, keys)]]
        open_ones = uploads[_below(prefix, upload_keys)]
        if any(not _is_old(each.modified, before) for each in mine) or any(
            not _is_old(each.created, before) for each in open_ones
        ):
            continue
        if prefix + MANIFEST_SUFFIX in by_key:
            mine = [each for each in mine if each.key == key]
            reason = f"{prefix} is committed; this is left of its sending"
        else:
            reason = f"{prefix} was never committed, or is being deleted; its writer is gone"
        account = by_key[key]
        found += [
            Orphan(kind="object", key=each.key, size=each.size, reason=reason, account=account)
            for each in mine
        ]
        found += [
            Orphan(
                kind="upload", key=each.key, size=0, reason=reason, account=account, upload_id=each.upload_id
            )
            for each in open_ones
        ]
    lease = by_key.get(LEASE_KEY)
    if lease is not None and not leased and _is_old(lease.modified, before):
        found.append(
            Orphan(kind="object", key=LEASE_KEY, size=lease.size, reason="its saver is gone", account=lease)
        )
    found += [
        Orphan(kind="object", key=info.key, size=info.size, reason="its reader is gone", account=info)
        for key, info in sorted(by_key.items())
        if is_over(info, readers_before)
    ]
    found += [
        Orphan(kind="object", key=key, size=info.size, reason="the clock was read by it", account=info)
        for key, info in sorted(by_key.items())
        if is_clock(info) and _is_old(info.modified, before)
    ]
    return found


async def remove_orphans(backend: Backend, found: Sequence[Orphan]) -> None:
    """Remove `found`: uploads, then objects, the intents and tombstones that account for them last.

    What somebody has taken up since it was found, so that its account is another or gone, stays: a
    saver that sends a checkpoint again declares that anew before anything else.

    Raises:
        StorageError: one could not be removed; what was not is left for the next sweep.
    """
    groups: dict[str, list[Orphan]] = {}
    for each in found:
        groups.setdefault(each.account.key, []).append(each)
    for group in groups.values():
        if await _is_as_it_was(backend, group[0].account):
            await _remove(backend, group)
        else:
            _log.info("%s has changed since it was listed; what it accounts for stays", group[0].account.key)


async def _is_as_it_was(backend: Backend, account: ObjectInfo) -> bool:
    async with aclosing(backend.list(account.key)) as listing:
        return account in [info async for info in listing]


async def _remove(backend: Backend, group: Sequence[Orphan]) -> None:
    uploads = [(each.key, each.upload_id) for each in group if each.upload_id is not None]
    keys = [each.key for each in group if each.upload_id is None]
    accounts = {key for key in keys if key.endswith((INTENT_SUFFIX, TOMBSTONE_SUFFIX))}
    if isinstance(backend, MultipartBackend):
        await fan_out([partial(_abort, backend, *each) for each in uploads], limit=_AT_ONCE)
    await delete_all(backend, [key for key in keys if key not in accounts])
    await delete_all(backend, sorted(accounts))


async def abort_uploads(backend: Backend, prefix: str) -> None:
    """Abort every open upload of the checkpoint `prefix`, which has no use for any.

    Raises:
        StorageError: one could not be found or aborted.
    """
    if not isinstance(backend, MultipartBackend):
        return
    async with aclosing(backend.list_uploads(prefix)) as listing:
        found = [info async for info in listing if _is_below(prefix, info.key) and _is_plain(info.key)]
    await fan_out([partial(_abort, backend, info.key, info.upload_id) for info in found], limit=_AT_ONCE)


async def _abort(backend: MultipartBackend, key: str, upload_id: str) -> None:
    try:
        await (await backend.open_upload(key, upload_id)).abort()
    except NotFoundError:
        return  # it ended between the listing and now, which is what was wanted


def _prefix(key: str, suffix: str) -> str | None:
    if "/" in key or not key.endswith(suffix):
        return None
    prefix = key.removesuffix(suffix)
    try:
        split_prefix(prefix)
    except ValueError:
        return None
    return prefix


def _step(key: str) -> int:
    for suffix in (MANIFEST_SUFFIX, INTENT_SUFFIX, TOMBSTONE_SUFFIX):
        prefix = _prefix(key, suffix)
        if prefix is not None:
            return split_prefix(prefix)[1]
    return -1


def _is_plain(key: str) -> bool:
    return "\\" not in key and not any(segment in ("", ".", "..") for segment in key.split("/"))


def _is_below(prefix: str, key: str) -> bool:
    return key.startswith((f"{prefix}.", f"{prefix}/"))


def _below(prefix: str, ordered: Sequence[str]) -> slice:
    """Return where, among keys in order, those lie that `_is_below` the prefix.

    "." comes right before "/" in that order, and "0" right after: it is one stretch.
    """
    start = bisect_left(ordered, f"{prefix}.")
    return slice(start, bisect_left(ordered, f"{prefix}0", lo=start))


def _is_old(time: datetime | None, before: datetime) -> bool:
    """Tell whether `time` is not after `before`; what has no time is not touched.

    Stores tell whole seconds: what was written in the second in which the clock was read has no age.
    """
    return time is not None and time <= before
