"""The laws of copies inside the store: exactly one version, whole, under conditions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from crc32c import crc32c

from ackpt.backends.base import CopyingBackend, IfAbsent, IfVersion, MultipartBackend, ObjectInfo
from ackpt.errors import AlreadyExistsError, ConditionFailedError, NotFoundError, TransientError
from ackpt.options import KiB, MiB
from ackpt.testing.law import Laws, Scene, as_copying, body_of, data_of, law, same, send, settled

ODD_COPIES = {
    "with space": "copy of 100%",
    "q?a=1&b#c+d": "copy/q?a=1&b#c+d",
    "grüße/日本語/😀": "日本語/grüße 😀",
    "a%2Fb": "a%252Fb",
}


class CopyLaws(Laws):
    """State what holds for every copy; a backend that cannot copy skips them by its type."""

    @law
    async def test_a_copy_has_the_same_bytes_and_checksum(self, scene: Scene) -> None:
        """The copy is described as what then is there; the source is as it was."""
        data = data_of(300 * KiB)
        source = await scene.put("folder/object", data)
        info = await scene.copying.copy(source, "other/copy")
        assert (info.key, info.size) == ("other/copy", len(data))
        for found in [info, await scene.backend.head("other/copy")]:
            assert (found.version, found.size) == (info.version, len(data))
            assert found.crc32c in {crc32c(data), None}, "a wrong checksum for the copy"
        await scene.holds("other/copy", data)
        await scene.holds("folder/object", data)
        assert (await scene.backend.head("folder/object")).version == source.version

    @law
    async def test_a_copy_of_an_empty_object_is_one(self, scene: Scene) -> None:
        """An object without bytes can be copied."""
        await scene.copying.copy(await scene.put("object", b""), "copy")
        await scene.holds("copy", b"")

    @law
    async def test_a_large_object_is_copied_whole(self, scene: Scene) -> None:
        """An object far larger than a block, and one that came in parts, are copied to the last byte."""
        data = data_of(9 * MiB + 17)
        await scene.copying.copy(await scene.put("object", data), "copy")
        await scene.holds("copy", data)
        if isinstance(scene.backend, MultipartBackend):
            pieces = scene.pieces(2)
            upload = await scene.upload("parts")
            await scene.copying.copy(await upload.complete(await send(upload, pieces)), "copy of parts")
            await scene.holds("copy of parts", b"".join(pieces))

    @law
    async def test_what_head_and_list_tell_can_be_copied(self, scene: Scene) -> None:
        """The version by which a source is named is that of put, head and list; other backends know it."""
        await scene.put("object", b"bytes")
        listed = [info async for info in scene.backend.list("object")]
        for number, info in enumerate([await scene.backend.head("object"), *listed]):
            await as_copying(scene.another()).copy(info, f"copy-{number}")
            await scene.holds(f"copy-{number}", b"bytes")

    @law
    async def test_a_copy_replaces_the_whole_object(self, scene: Scene) -> None:
        """Without a condition a longer object is replaced, and leaves no tail; the version is new."""
        source = await scene.put("object", b"new")
        old = await scene.put("copy", b"a long old object")
        info = await scene.copying.copy(source, "copy")
        assert info.version != old.version
        await scene.holds("copy", b"new")
        assert await scene.keys() == ["copy", "object"]

    @law
    async def test_a_copy_and_its_source_are_apart(self, scene: Scene) -> None:
        """What is done to one of them later does not show in the other."""
        source = await scene.put("object", b"bytes")
        for key in ["first", "second"]:
            await scene.copying.copy(source, key)
        await scene.put("first", b"changed")
        await scene.holds("object", b"bytes")
        await scene.put("object", b"other")
        await scene.backend.delete("object")
        await scene.holds("first", b"changed")
        await scene.holds("second", b"bytes")

    @law
    async def test_a_copy_is_of_exactly_that_version(self, scene: Scene) -> None:
        """A source that was replaced is a NotFoundError, and nothing is written."""
        stale = await scene.put("object", b"old")
        await scene.put("object", b"new")
        await scene.put("there", b"there")
        for key in ["copy", "there"]:
            with pytest.raises(NotFoundError) as caught:
                await scene.copying.copy(stale, key)
            assert caught.value.key == "object"
        with pytest.raises(NotFoundError):
            await scene.copying.copy(stale, "copy", condition=IfAbsent())
        await scene.absent("copy")
        await scene.holds("there", b"there")

    @law
    async def test_a_copy_knows_the_same_bytes_written_again(self, scene: Scene) -> None:
        """A source that was replaced by the same bytes is another version."""
        stale = await scene.put("object", b"same")
        await scene.put("object", b"same")
        with pytest.raises(NotFoundError):
            await scene.copying.copy(stale, "copy")
        await scene.absent("copy")

    @law
    async def test_a_copy_while_the_source_is_replaced_is_of_that_version(self, scene: Scene) -> None:
        """A copy that races with a put to its source is of the version asked for, or fails."""
        for turn in range(4):
            source = await scene.put(f"object-{turn}", b"o" * 200_000)
            copying, key = as_copying(scene.another()), f"copy-{turn}"
            result, _ = await settled(copying.copy(source, key), scene.put(f"object-{turn}", b"n" * 200_001))
            if isinstance(result, ObjectInfo):
                await scene.holds(key, b"o" * 200_000)
            else:
                assert isinstance(result, NotFoundError | TransientError), result
                await scene.absent(key)

    @law
    async def test_a_copy_of_nothing_is_an_error(self, scene: Scene) -> None:
        """A source that is gone, or never was, is a NotFoundError, and what is there stays."""
        gone = await scene.put("object", b"bytes")
        await scene.backend.delete("object")
        there = await scene.put("there", b"there")
        for source in [gone, replace(gone, key="never")]:
            for key in ["copy", "there"]:
                with pytest.raises(NotFoundError) as caught:
                    await scene.copying.copy(source, key)
                assert caught.value.key == source.key
        await scene.absent("copy")
        assert (await scene.backend.head("there")).version == there.version

    @law
    async def test_a_copy_if_absent_leaves_what_is_there(self, scene: Scene) -> None:
        """A create-only copy creates, and over an object is an AlreadyExistsError that leaves it."""
        source = await scene.put("object", b"bytes")
        await scene.copying.copy(source, "copy", condition=IfAbsent())
        await scene.holds("copy", b"bytes")
        old = await scene.put("copy", b"old")
        with pytest.raises(AlreadyExistsError) as caught:
            await scene.copying.copy(source, "copy", condition=IfAbsent())
        assert caught.value.key == "copy"
        await scene.holds("copy", b"old")
        assert (await scene.backend.head("copy")).version == old.version

    @law
    async def test_a_copy_if_version_replaces_that_version_alone(self, scene: Scene) -> None:
        """A copy over another version, or over nothing, is a ConditionFailedError that leaves it so."""
        source = await scene.put("object", b"bytes")
        stale = await scene.put("copy", b"stale")
        now = await scene.put("copy", b"now")
        with pytest.raises(ConditionFailedError) as caught:
            await scene.copying.copy(source, "copy", condition=IfVersion(stale.version))
        assert not isinstance(caught.value, AlreadyExistsError)
        assert caught.value.key == "copy"
        await scene.holds("copy", b"now")
        info = await scene.copying.copy(source, "copy", condition=IfVersion(now.version))
        assert (await scene.backend.head("copy")).version == info.version != now.version
        await scene.holds("copy", b"bytes")
        with pytest.raises(ConditionFailedError):
            await scene.copying.copy(source, "nowhere", condition=IfVersion(now.version))
        await scene.absent("nowhere")

    @law
    async def test_of_many_copiers_one_wins(self, scene: Scene) -> None:
        """Of create-only copies and puts at one time, from several backends, exactly one writes."""
        scene.many_writers()
        sources = [await scene.put(f"object-{number}", b"writer %d" % number) for number in range(4)]
        copying = [scene.copying, as_copying(scene.another())]
        results = await settled(
            *(copying[n % 2].copy(source, "copy", condition=IfAbsent()) for n, source in enumerate(sources)),
            *(copying[n % 2].put("copy", body_of(b"writer %d" % n), condition=IfAbsent()) for n in (4, 5)),
        )
        winners = [number for number, result in enumerate(results) if isinstance(result, ObjectInfo)]
        assert len(winners) == 1, results
        for number, result in enumerate(results):
            assert number in winners or isinstance(result, ConditionFailedError | TransientError), result
        await scene.holds("copy", b"writer %d" % winners[0])

    @law
    async def test_an_object_can_be_copied_onto_itself(self, scene: Scene) -> None:
        """Copied onto itself an object keeps its bytes; the condition is about the version there is."""
        data = data_of(200 * KiB)
        source = await scene.put("object", data)
        with pytest.raises(AlreadyExistsError):
            await scene.copying.copy(source, "object", condition=IfAbsent())
        info = await scene.copying.copy(source, "object", condition=IfVersion(source.version))
        assert (await scene.backend.head("object")).version == info.version
        again = await scene.copying.copy(info, "object")
        assert (await scene.backend.head("object")).version == again.version
        await scene.holds("object", data)
        assert await scene.keys() == ["object"]

    @law
    async def test_a_copy_takes_odd_keys(self, scene: Scene) -> None:
        """Spaces, signs, percent signs and any letters, of source and copy, are kept as they are."""
        for odd, copy in ODD_COPIES.items():
            info = await scene.copying.copy(await scene.put(odd, odd.encode()), copy)
            assert info.key == copy
            await scene.holds(copy, odd.encode())
        assert await scene.keys() == sorted([*ODD_COPIES, *ODD_COPIES.values()])

    @law
    async def test_a_copy_cancelled_anywhere_is_all_or_nothing(self, scene: Scene) -> None:
        """After a cancelled copy the old object is there or the whole copy, no upload, and it can be done."""
        data = data_of(2 * MiB + 5)
        source = await scene.put("object", data)
        for waits in range(8):
            await scene.put("copy", b"old")
            task = asyncio.create_task(scene.copying.copy(source, "copy"))
            for _ in range(waits):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            found = await scene.read("copy")
            assert found == b"old" or same(found, data), f"{len(found)} bytes after a cancelled copy"
            if isinstance(scene.backend, MultipartBackend):
                assert await scene.open_uploads() == [], "a cancelled copy left an upload open"
        assert isinstance(scene.backend, CopyingBackend)
        await scene.backend.copy(source, "copy")
        await scene.holds("copy", data)
        assert await scene.keys() == ["copy", "object"]
