"""The laws of objects: put, get, head, list, delete."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from ackpt.errors import NotFoundError, StorageError
from ackpt.options import KiB, MiB
from ackpt.testing.law import Laws, Scene, body_of, data_of, law, read, same, settled


class ObjectLaws(Laws):
    """State what holds for whole objects in every store."""

    many_objects = 1_050
    """How many objects make a listing of more than one page (GCS, S3: 1,000; Azure: 5,000)."""

    @law
    async def test_put_then_get_gives_the_same_bytes(self, scene: Scene) -> None:
        """What was put is what is read, byte for byte."""
        data = bytes(range(256)) * 5
        await scene.put("object", data)
        await scene.holds("object", data)

    @law
    async def test_an_object_of_many_blocks_comes_back_whole(self, scene: Scene) -> None:
        """An object far larger than a block, and no multiple of one, comes back whole."""
        data = data_of(3 * MiB + 17)
        info = await scene.put("object", data)
        assert info.size == len(data)
        await scene.holds("object", data)

    @law
    async def test_an_empty_object_is_an_object(self, scene: Scene) -> None:
        """An object without bytes is there, listed, and gives none."""
        info = await scene.put("empty", b"")
        assert info.size == 0
        await scene.holds("empty", b"")
        assert await scene.read("empty", 0, 10) == b""

    @law
    async def test_put_replaces_the_whole_object(self, scene: Scene) -> None:
        """A shorter object leaves no tail of a longer one."""
        await scene.put("object", b"a long old object")
        await scene.put("object", b"new")
        await scene.holds("object", b"new")
        assert await scene.keys() == ["object"]

    @law
    async def test_put_returns_what_head_and_list_then_say(self, scene: Scene) -> None:
        """Key, size and version are the same from put, head and list."""
        info = await scene.put("folder/object", b"bytes")
        head = await scene.backend.head("folder/object")
        listed = [found async for found in scene.backend.list()]
        assert (info.key, info.size) == ("folder/object", 5)
        assert [(found.key, found.size, found.version) for found in (head, *listed)] == [
            (info.key, info.size, info.version)
        ] * 2

    @law
    async def test_every_write_makes_a_new_version(self, scene: Scene) -> None:
        """Writes in quick succession, of the same bytes too, all have versions of their own."""
        versions = [(await scene.put("object", b"same size")).version for _ in range(20)]
        assert all(versions), "a version is empty"
        assert len(set(versions)) == len(versions), f"a version came twice: {versions}"

    @law
    async def test_a_read_makes_no_new_version(self, scene: Scene) -> None:
        """The version is the same however often it is asked for."""
        info = await scene.put("object", b"bytes")
        await scene.read("object")
        versions = {(await scene.backend.head("object")).version for _ in range(3)}
        assert versions == {info.version}

    @law
    async def test_get_takes_half_open_ranges(self, scene: Scene) -> None:
        """A range includes its start, excludes its stop, is cut at the end, and may be empty."""
        data = data_of(1000)
        await scene.put("object", data)
        for start, stop in [
            *[(0, 1), (0, 1000), (1, 2), (10, 500), (999, 1000), (0, None), (1, None), (999, None)],
            *[(0, 5000), (500, 5000), (1000, None), (1000, 2000), (2000, 3000), (5, 5), (0, 0)],
        ]:
            got = await scene.read("object", start, stop)
            assert same(got, data[start:stop]), (
                f"wrong bytes for the range {start} to {stop}: {len(got)} of them"
            )

    @law
    async def test_get_takes_ranges_across_blocks(self, scene: Scene) -> None:
        """A range that begins and ends in the middle of blocks is exact."""
        data = data_of(700 * KiB)
        await scene.put("object", data)
        for start, stop in [(128 * KiB - 1, 128 * KiB + 1), (300_001, 600_003), (256 * KiB, 512 * KiB)]:
            assert same(await scene.read("object", start, stop), data[start:stop]), (
                f"wrong: {start} to {stop}"
            )

    @law
    async def test_get_of_nothing_is_not_found(self, scene: Scene) -> None:
        """An absent object is a NotFoundError, at the first step, with the key in it."""
        await scene.put("object-2", b"a neighbour")
        with pytest.raises(NotFoundError) as caught:
            await anext(scene.backend.get("object"))
        assert caught.value.key == "object"
        assert "object" in str(caught.value)

    @law
    async def test_head_of_nothing_is_not_found(self, scene: Scene) -> None:
        """An absent object is a NotFoundError, with the key in it."""
        await scene.put("object/below", b"a neighbour")
        with pytest.raises(NotFoundError) as caught:
            await scene.backend.head("object")
        assert caught.value.key == "object"
        assert "object" in str(caught.value)

    @law
    async def test_head_is_never_stale(self, scene: Scene) -> None:
        """After every put and delete, of any backend, the next head tells the new state."""
        other = scene.another()
        for size in range(3):
            await scene.put("object", bytes(size))
            assert (await scene.backend.head("object")).size == size
            info = await other.put("object", body_of(bytes(10 + size)))
            assert (await scene.backend.head("object")).version == info.version
            await other.delete("object")
            with pytest.raises(NotFoundError):
                await scene.backend.head("object")

    @law
    async def test_a_read_left_early_harms_nothing(self, scene: Scene) -> None:
        """Closing a get after its first block leaves the backend usable."""
        data = data_of(2 * MiB)
        await scene.put("object", data)
        for _ in range(10):
            async with aclosing(scene.backend.get("object")) as blocks:
                assert data.startswith(await anext(blocks))
        await scene.holds("object", data)

    @law
    async def test_a_reader_never_sees_a_mixture(self, scene: Scene) -> None:
        """An object replaced while it is read gives the old bytes, the new ones, or an error."""
        old, new = b"o" * (2 * MiB), b"n" * (2 * MiB)
        await scene.put("object", old)
        got: list[bytes] = []
        try:
            async with aclosing(scene.backend.get("object")) as blocks:
                async for block in blocks:
                    if not got:
                        await scene.put("object", new)
                    got.append(block)
        except StorageError:
            return
        whole = b"".join(got)
        assert same(whole, old) or same(whole, new), "a reader got bytes of two versions, or not all of one"

    @law
    async def test_a_replaced_object_is_never_gone(self, scene: Scene) -> None:
        """At every moment of a put over an object, head and get find the old one or the new one, whole."""
        size, reader = 100 * KiB, scene.another()
        bodies = [bytes([number]) * size for number in range(10)]
        await scene.put("object", bodies[0])

        async def replace() -> None:
            for body in bodies[1:]:
                await scene.put("object", body)

        writer = asyncio.create_task(replace())
        try:
            while not writer.done():
                assert (await reader.head("object")).size == size, "head found a size that nobody put"
                data = await read(reader, "object")
                assert any(same(data, body) for body in bodies), "get found bytes that nobody put"
                await asyncio.sleep(0)
            await writer
        finally:
            writer.cancel()
            await asyncio.wait({writer})

    @law
    async def test_list_finds_keys_by_prefix(self, scene: Scene) -> None:
        """A prefix is the beginning of a text, not a folder; all keys below it are found, at any depth."""
        keys = ["a", "ab", "abc/d", "abc/e/f", "abd", "b/a"]
        for key in keys:
            await scene.put(key, b"x")
        for prefix in ["", "a", "ab", "abc", "abc/", "abc/e", "abc/e/f", "b", "b/", "c", "a/", "abc/d/", "d"]:
            found = await scene.keys(prefix)
            assert found == [key for key in keys if key.startswith(prefix)], (
                f"wrong for the prefix {prefix!r}"
            )

    @law
    async def test_list_of_an_empty_place_is_empty(self, scene: Scene) -> None:
        """A place where nothing was written yet has no objects, and that is no error."""
        assert await scene.keys() == []
        assert await scene.keys("anything") == []

    @law
    async def test_list_gives_every_page(self, scene: Scene) -> None:
        """More objects than fit in one page of a listing all come, each once."""
        keys = [f"many/{number:05d}" for number in range(self.many_objects)]
        for start in range(0, len(keys), 50):
            results = await settled(*(scene.put(key, b"x") for key in keys[start : start + 50]))
            assert not [result for result in results if isinstance(result, Exception)]
        found = await scene.keys("many/")
        assert found == keys, f"{len(found)} listed, {len(set(found))} different; expected {len(keys)}"

    @law
    async def test_list_left_early_harms_nothing(self, scene: Scene) -> None:
        """Closing a listing after its first object leaves the backend usable."""
        for number in range(5):
            await scene.put(f"object-{number}", b"x")
        async with aclosing(scene.backend.list()) as infos:
            await anext(infos)
        assert len(await scene.keys()) == 5

    @law
    async def test_delete_removes_the_object(self, scene: Scene) -> None:
        """A deleted object is absent at once: to get, head and list."""
        await scene.put("folder/object", b"bytes")
        await scene.backend.delete("folder/object")
        await scene.absent("folder/object")
        assert await scene.keys() == []

    @law
    async def test_delete_of_nothing_is_success(self, scene: Scene) -> None:
        """Deleting what is absent, or deleting twice, is no error."""
        await scene.backend.delete("never/there")
        await scene.put("object", b"bytes")
        await scene.backend.delete("object")
        await scene.backend.delete("object")
        await scene.absent("object")

    @law
    async def test_delete_leaves_the_neighbours(self, scene: Scene) -> None:
        """Only the very key is deleted, not those that begin with it."""
        for key in ["a/b", "a/bc", "a/bd/e", "ab"]:
            await scene.put(key, b"x")
        await scene.backend.delete("a/b")
        await scene.backend.delete("a")
        assert await scene.keys() == ["a/bc", "a/bd/e", "ab"]

    @law
    async def test_a_deleted_key_can_be_written_again(self, scene: Scene) -> None:
        """After a delete the key is as good as new."""
        await scene.put("object", b"old")
        await scene.backend.delete("object")
        await scene.put("object", b"new")
        await scene.holds("object", b"new")

    @law
    async def test_another_backend_sees_it_at_once(self, scene: Scene) -> None:
        """What one backend wrote or deleted, another on the same URL sees at once."""
        other = scene.another()
        info = await scene.put("object", b"bytes")
        assert (await other.head("object")).version == info.version
        assert await read(other, "object") == b"bytes"
        assert [found.key async for found in other.list()] == ["object"]
        await other.delete("object")
        await scene.absent("object")

    @law
    async def test_many_puts_at_one_time_all_land(self, scene: Scene) -> None:
        """Puts to different keys, all at one time, do not disturb each other."""
        contents = {f"object-{number}": data_of(50_000 + number, seed=number) for number in range(16)}
        infos = await settled(*(scene.put(key, data) for key, data in contents.items()))
        assert not [info for info in infos if isinstance(info, Exception)]
        for key, data in contents.items():
            await scene.holds(key, data)

    @law
    async def test_puts_to_one_key_at_one_time_leave_one_whole(self, scene: Scene) -> None:
        """Of puts to one key, all at one time, one remains, with its own version, size and bytes."""
        contents = [bytes([number]) * (200_000 + number) for number in range(8)]
        infos = await settled(*(scene.put("object", data) for data in contents))
        head = await scene.backend.head("object")
        data = await scene.read("object")
        assert any(same(data, content) for content in contents), "a mixture of several puts"
        winner = infos[data[0]]
        assert not isinstance(winner, Exception)
        assert (head.version, head.size) == (winner.version, len(data))

    @law
    async def test_a_body_can_be_sent_again(self, scene: Scene) -> None:
        """Putting the same body twice sends all its bytes twice: a retry must be able to."""
        data = data_of(300_000)
        body = body_of(data)
        await scene.backend.put("first", body)
        await scene.backend.put("second", body)
        await scene.holds("first", data)
        await scene.holds("second", data)

    @law
    async def test_times_have_a_zone(self, scene: Scene) -> None:
        """`modified`, where it is told, is a moment: with a time zone."""
        await scene.put("object", b"bytes")
        for info in [await scene.backend.head("object"), *[found async for found in scene.backend.list()]]:
            assert info.modified is None or info.modified.tzinfo is not None

    @law
    async def test_closing_twice_is_closing_once(self, scene: Scene) -> None:
        """`aclose` is idempotent, and a backend that was never used can be closed."""
        await scene.another().aclose()
        other = scene.another()
        await other.put("object", body_of(b"bytes"))
        await other.aclose()
        await other.aclose()
        await scene.holds("object", b"bytes")

    @law
    async def test_an_error_of_one_request_harms_no_other(self, scene: Scene) -> None:
        """After a request has failed the backend is as good as before."""
        await scene.put("object", b"bytes")
        with pytest.raises(NotFoundError):
            await scene.backend.head("absent")
        with pytest.raises(NotFoundError):
            await scene.read("absent")
        await scene.holds("object", b"bytes")
