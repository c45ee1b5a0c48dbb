"""The laws of what may go wrong on the way: checksums, bodies that fail, and cancellation."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from crc32c import crc32c

from ackpt.backends.base import MultipartBackend
from ackpt.errors import ChecksumMismatchError, LocalFileError
from ackpt.options import KiB
from ackpt.testing.bodies import BLOCK_BYTES, CancellingBody, FailingBody, LyingBody, StallingBody
from ackpt.testing.law import Laws, Scene, cancelled_halfway, data_of, law, same


class IntegrityLaws(Laws):
    """State that nothing half-written or damaged passes for an object, in every store."""

    @law
    async def test_reported_checksums_are_right(self, scene: Scene) -> None:
        """A crc32c that put, head or list tells is that of the object's bytes."""
        for key, data in {"empty": b"", "small": b"123456789", "large": data_of(700_001)}.items():
            infos = [await scene.put(key, data), await scene.backend.head(key)]
            infos += [info async for info in scene.backend.list(key)]
            assert {info.crc32c for info in infos} <= {crc32c(data), None}, f"a wrong checksum for {key!r}"
        await scene.put("small", b"other")
        assert (await scene.backend.head("small")).crc32c in {crc32c(b"other"), None}

    @law
    async def test_a_wrong_checksum_is_seen(self, scene: Scene) -> None:
        """Bytes that are not those announced are refused, or reported with the checksum they have."""
        data = data_of(200_000)
        try:
            info = await scene.backend.put("object", LyingBody(data))
        except ChecksumMismatchError:
            await scene.absent("object")
        else:
            assert info.crc32c in {crc32c(data), None}, "what was announced is passed for what is stored"

    @law
    async def test_a_body_that_fails_stores_nothing(self, scene: Scene) -> None:
        """A body's own error comes through as it is, and no object appears."""
        data = data_of(5 * BLOCK_BYTES)
        for number, after in enumerate([0, 2 * BLOCK_BYTES, len(data)]):
            error = LocalFileError("the staged file has gone")
            with pytest.raises(LocalFileError) as caught:
                await scene.backend.put(f"object-{number}", FailingBody(data, error, after=after))
            assert caught.value is error
        assert await scene.keys() == []

    @law
    async def test_a_body_that_fails_leaves_the_old_object(self, scene: Scene) -> None:
        """The object that was to be replaced is as it was."""
        old = await scene.put("object", b"old")
        error = LocalFileError("the staged file has changed")
        body = FailingBody(data_of(5 * BLOCK_BYTES), error, after=2 * BLOCK_BYTES)
        with pytest.raises(LocalFileError):
            await scene.backend.put("object", body)
        await scene.holds("object", b"old")
        assert (await scene.backend.head("object")).version == old.version

    @law
    async def test_a_cancelled_put_stores_nothing(self, scene: Scene) -> None:
        """A put cancelled while its body is on the way ends at once, and no object appears."""
        for after in [0, 2 * BLOCK_BYTES]:
            body = StallingBody(data_of(5 * BLOCK_BYTES), after=after)
            await cancelled_halfway(scene.backend.put("object", body), body.reached)
            await scene.absent("object")
        if isinstance(scene.backend, MultipartBackend):
            assert await scene.open_uploads() == [], "a cancelled put left an upload open"

    @law
    async def test_a_cancelled_put_leaves_the_old_object(self, scene: Scene) -> None:
        """The object that was to be replaced is as it was, and can be replaced after."""
        old = await scene.put("object", b"old")
        body = StallingBody(data_of(5 * BLOCK_BYTES), after=2 * BLOCK_BYTES)
        await cancelled_halfway(scene.backend.put("object", body), body.reached)
        await scene.holds("object", b"old")
        assert (await scene.backend.head("object")).version == old.version
        await scene.put("object", b"new")
        await scene.holds("object", b"new")

    @law
    async def test_a_put_cancelled_anywhere_is_all_or_nothing(self, scene: Scene) -> None:
        """Wherever the cancellation comes, a reader finds the old object or the whole new one."""
        new = data_of(3 * BLOCK_BYTES + 5)
        for after in range(0, 5 * BLOCK_BYTES, BLOCK_BYTES):
            await scene.put("object", b"old")
            body = CancellingBody(new, after=after)
            body.task = asyncio.create_task(scene.backend.put("object", body))
            with suppress(asyncio.CancelledError):
                await body.task
            data = await scene.read("object")
            assert data == b"old" or same(data, new), f"{len(data)} bytes after a cancellation at {after}"
            assert await scene.keys() == ["object"]

    @law
    async def test_a_cancelled_read_harms_nothing(self, scene: Scene) -> None:
        """After a read that was cancelled in the middle the backend is as good as before."""
        data = data_of(700 * KiB)
        await scene.put("object", data)
        for waits in range(4):
            task = asyncio.create_task(scene.read("object"))
            for _ in range(waits):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await scene.holds("object", data)
