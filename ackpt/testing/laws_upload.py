"""The laws of uploads in parts: what any `MultipartBackend` does, in order or not."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from crc32c import crc32c

from ackpt.backends.base import IfAbsent, IfVersion, ObjectInfo, Upload
from ackpt.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    ConditionFailedError,
    LocalFileError,
    NotFoundError,
    TransientError,
)
from ackpt.testing.bodies import FailingBody, LyingBody, StallingBody
from ackpt.testing.law import (
    Laws,
    Scene,
    as_multipart,
    body_of,
    cancelled_halfway,
    law,
    same,
    send,
    settled,
)


class UploadLaws(Laws):
    """State what holds for every upload; a backend without uploads skips them by its type."""

    @law
    async def test_limits_make_sense(self, scene: Scene) -> None:
        """There is a part size that the limits allow."""
        limits = scene.multipart.limits
        assert 1 <= limits.min_part_bytes <= limits.max_part_bytes
        assert limits.max_parts >= 1
        assert 1 <= limits.granularity_bytes <= limits.max_part_bytes

    @law
    async def test_parts_make_the_object(self, scene: Scene) -> None:
        """The object is its parts, one after another, and is described right."""
        pieces = scene.pieces(3)
        upload = await scene.upload("folder/object")
        assert upload.key == "folder/object"
        assert upload.id
        receipts = await send(upload, pieces)
        assert [(receipt.number, receipt.size) for receipt in receipts] == [
            (number, len(piece)) for number, piece in enumerate(pieces, 1)
        ]
        info = await upload.complete(receipts)
        assert (info.key, info.size) == ("folder/object", sum(map(len, pieces)))
        assert (await scene.backend.head("folder/object")).version == info.version
        await scene.holds("folder/object", b"".join(pieces))

    @law
    async def test_one_part_makes_an_object(self, scene: Scene) -> None:
        """A single part, smaller than the least size, is the last one and so allowed."""
        upload = await scene.upload("object")
        await upload.complete(await send(upload, [b"all of it"]))
        await scene.holds("object", b"all of it")

    @law
    async def test_an_upload_is_invisible_until_complete(self, scene: Scene) -> None:
        """Readers see nothing of an upload under way, and the old object where there was one."""
        pieces = scene.pieces(2)
        fresh, over = await scene.upload("fresh"), await scene.upload("over")
        await scene.put("over", b"old")
        await send(fresh, pieces)
        receipts = await send(over, pieces)
        await scene.absent("fresh")
        await scene.holds("over", b"old")
        assert await scene.keys() == ["over"]
        await over.complete(receipts)
        await scene.holds("over", b"".join(pieces))

    @law
    async def test_upload_checksums_are_right(self, scene: Scene) -> None:
        """A crc32c that a receipt or the object tells is that of its bytes."""
        pieces = scene.pieces(3)
        upload = await scene.upload("object")
        receipts = await send(upload, pieces)
        for receipt, piece in zip(receipts, pieces, strict=True):
            assert receipt.crc32c in {crc32c(piece), None}, f"a wrong checksum for part {receipt.number}"
        for receipt in await upload.parts():
            assert receipt.crc32c in {crc32c(pieces[receipt.number - 1]), None}
        infos = [await upload.complete(receipts), await scene.backend.head("object")]
        infos += [info async for info in scene.backend.list()]
        assert {info.crc32c for info in infos} <= {crc32c(b"".join(pieces)), None}

    @law
    async def test_a_wrong_part_checksum_is_seen(self, scene: Scene) -> None:
        """A part's bytes that are not those announced are refused, or reported as they are."""
        pieces = scene.pieces(2)
        upload = await scene.upload("object")
        try:
            receipt = await upload.put_part(1, LyingBody(pieces[0]))
        except ChecksumMismatchError:
            assert [receipt for receipt in await upload.parts() if receipt.number == 1] == []
            receipt = await upload.put_part(1, body_of(pieces[0]))
        assert receipt.crc32c in {crc32c(pieces[0]), None}, "what was announced is passed for what is stored"
        await upload.abort()

    @law
    async def test_parts_tells_what_was_put(self, scene: Scene) -> None:
        """`parts` gives the receipts of what the store has, in order of their numbers."""
        upload = await scene.upload("object")
        assert list(await upload.parts()) == []
        receipts = await send(upload, scene.pieces(3))
        listed = await upload.parts()
        assert [(part.number, part.size, part.token) for part in listed] == [
            (receipt.number, receipt.size, receipt.token) for receipt in receipts
        ]

    @law
    async def test_an_upload_goes_on_in_another_backend(self, scene: Scene) -> None:
        """`open_upload` finds the upload; what `parts` does not tell is put, and it completes."""
        pieces = scene.pieces(4)
        first = await scene.upload("object")
        await send(first, pieces[:2])
        other = as_multipart(scene.another())
        upload = await other.open_upload("object", first.id)
        assert (upload.key, upload.id) == ("object", first.id)
        receipts = {receipt.number: receipt for receipt in await upload.parts()}
        for number, piece in enumerate(pieces, 1):
            if number not in receipts:
                receipts[number] = await upload.put_part(number, body_of(piece))
        await upload.complete([receipts[number] for number in sorted(receipts)])
        await scene.holds("object", b"".join(pieces))

    @law
    async def test_a_completed_upload_is_gone(self, scene: Scene) -> None:
        """After `complete` everything but `abort` is a NotFoundError, and the object stays."""
        upload = await scene.upload("object")
        receipts = await send(upload, [b"bytes"])
        await upload.complete(receipts)
        await _is_gone(scene, upload)
        with pytest.raises(NotFoundError):
            await upload.complete(receipts)
        await upload.abort()
        await scene.holds("object", b"bytes")

    @law
    async def test_an_aborted_upload_is_gone(self, scene: Scene) -> None:
        """After `abort` everything but `abort` is a NotFoundError, and no object appears."""
        upload = await scene.upload("object")
        receipts = await send(upload, [b"bytes"])
        await upload.abort()
        await upload.abort()
        await _is_gone(scene, upload)
        with pytest.raises(NotFoundError):
            await upload.complete(receipts)
        await scene.absent("object")

    @law
    async def test_abort_from_another_backend_ends_the_upload(self, scene: Scene) -> None:
        """A sweep can drop an upload that another process began, and aborting it again is success."""
        upload = await scene.upload("object")
        await send(upload, [b"bytes"])
        other = await as_multipart(scene.another()).open_upload("object", upload.id)
        await other.abort()
        await _is_gone(scene, upload)
        await upload.abort()
        assert await scene.open_uploads() == []

    @law
    async def test_abort_leaves_the_old_object(self, scene: Scene) -> None:
        """Dropping an upload does not touch the object it was to replace."""
        await scene.put("object", b"old")
        upload = await scene.upload("object")
        await send(upload, scene.pieces(2))
        await upload.abort()
        await scene.holds("object", b"old")

    @law
    async def test_list_uploads_finds_the_unfinished(self, scene: Scene) -> None:
        """Exactly the uploads that were neither completed nor aborted are listed, by prefix."""
        assert await scene.open_uploads() == []
        uploads = {
            key: await scene.upload(key) for key in ["a/one", "a/two", "b/three", "a/done", "a/dropped"]
        }
        await uploads["a/done"].complete(await send(uploads["a/done"], [b"bytes"]))
        await uploads["a/dropped"].abort()
        expected = {key: [(key, uploads[key].id)] for key in ["a/one", "a/two", "b/three"]}
        assert await scene.open_uploads() == [*expected["a/one"], *expected["a/two"], *expected["b/three"]]
        assert await scene.open_uploads("a/") == [*expected["a/one"], *expected["a/two"]]
        assert await scene.open_uploads("a/t") == expected["a/two"]
        assert await scene.open_uploads("c") == []
        async for info in scene.multipart.list_uploads():
            assert info.created is None or info.created.tzinfo is not None

    @law
    async def test_uploads_to_one_key_are_apart(self, scene: Scene) -> None:
        """Two uploads to one key do not see each other's parts; the one completed last counts."""
        pieces, others = scene.pieces(2), scene.pieces(2, seed=7)
        one, two = await scene.upload("object"), await scene.upload("object")
        assert one.id != two.id
        mine, theirs = await send(one, pieces), await send(two, others)
        await one.complete(mine)
        await scene.holds("object", b"".join(pieces))
        await two.complete(theirs)
        await scene.holds("object", b"".join(others))

    @law
    async def test_an_upload_takes_odd_keys(self, scene: Scene) -> None:
        """Spaces, signs, percent signs and any letters go through uploads unharmed."""
        for key in ["with space", "percent%20 100%", "q?a=1&b#c+d", "grüße/日本語/😀"]:
            upload = await scene.upload(key)
            assert await scene.open_uploads() == [(key, upload.id)]
            opened = await scene.multipart.open_upload(key, upload.id)
            await opened.complete(await send(opened, [key.encode()]))
            await scene.holds(key, key.encode())

    @law
    async def test_complete_if_absent(self, scene: Scene) -> None:
        """A create-only completion creates, and leaves what is there with an AlreadyExistsError."""
        first = await scene.upload("object")
        await first.complete(await send(first, [b"first"]), condition=IfAbsent())
        second = await scene.upload("object")
        with pytest.raises(AlreadyExistsError):
            await second.complete(await send(second, [b"second"]), condition=IfAbsent())
        await scene.holds("object", b"first")
        await second.abort()
        await scene.holds("object", b"first")

    @law
    async def test_complete_if_version(self, scene: Scene) -> None:
        """A completion over a version replaces that version alone."""
        stale = await scene.put("object", b"stale")
        now = await scene.put("object", b"now")
        first = await scene.upload("object")
        with pytest.raises(ConditionFailedError):
            await first.complete(await send(first, [b"first"]), condition=IfVersion(stale.version))
        await scene.holds("object", b"now")
        await first.abort()
        second = await scene.upload("object")
        info = await second.complete(await send(second, [b"second"]), condition=IfVersion(now.version))
        await scene.holds("object", b"second")
        assert (await scene.backend.head("object")).version == info.version != now.version

    @law
    async def test_of_many_completions_one_wins(self, scene: Scene) -> None:
        """Of create-only completions and puts at one time, exactly one writes."""
        scene.many_writers()
        uploads = [await scene.upload("object") for _ in range(4)]
        sent = [await send(upload, [b"writer %d" % number]) for number, upload in enumerate(uploads)]
        results = await settled(
            *(
                upload.complete(receipts, condition=IfAbsent())
                for upload, receipts in zip(uploads, sent, strict=True)
            ),
            *(scene.put("object", b"writer %d" % number, IfAbsent()) for number in range(4, 6)),
        )
        winners = [number for number, result in enumerate(results) if isinstance(result, ObjectInfo)]
        assert len(winners) == 1, results
        for number, result in enumerate(results):
            assert number in winners or isinstance(result, ConditionFailedError | TransientError), result
        await scene.holds("object", b"writer %d" % winners[0])
        for upload in uploads:
            await upload.abort()

    @law
    async def test_a_part_whose_body_fails_can_be_put_again(self, scene: Scene) -> None:
        """A body's own error comes through, the part does not count, and another attempt does."""
        pieces = scene.pieces(2)
        upload = await scene.upload("object")
        error = LocalFileError("the staged file has gone")
        with pytest.raises(LocalFileError) as caught:
            await upload.put_part(1, FailingBody(pieces[0], error))
        assert caught.value is error
        assert list(await upload.parts()) == []
        await upload.complete(await send(upload, pieces))
        await scene.holds("object", b"".join(pieces))

    @law
    async def test_a_cancelled_part_can_be_put_again(self, scene: Scene) -> None:
        """A part cancelled on its way ends at once, does not count, and another attempt does."""
        pieces = scene.pieces(2)
        upload = await scene.upload("object")
        body = StallingBody(pieces[0])
        await cancelled_halfway(upload.put_part(1, body), body.reached)
        assert list(await upload.parts()) == []
        await upload.complete(await send(upload, pieces))
        await scene.holds("object", b"".join(pieces))

    @law
    async def test_a_cancelled_completion_is_all_or_nothing(self, scene: Scene) -> None:
        """After a cancelled `complete`, asking again completes it, or says that it is done."""
        pieces = scene.pieces(2)
        for waits in range(6):
            key = f"object-{waits}"
            upload = await scene.upload(key)
            receipts = await send(upload, pieces)
            task = asyncio.create_task(upload.complete(receipts))
            for _ in range(waits):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            with suppress(NotFoundError):
                assert same(await scene.read(key), b"".join(pieces)), "half an object is visible"
            with suppress(NotFoundError):
                await upload.complete(receipts)
            await scene.holds(key, b"".join(pieces))


async def _is_gone(scene: Scene, upload: Upload) -> None:
    with pytest.raises(NotFoundError):
        await upload.put_part(1, body_of(b"late"))
    with pytest.raises(NotFoundError):
        await upload.parts()
    with pytest.raises(NotFoundError):
        await scene.multipart.open_upload(upload.key, upload.id)
    assert (upload.key, upload.id) not in await scene.open_uploads()
