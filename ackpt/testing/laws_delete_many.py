"""The laws of deletions of many objects in one request: those keys, all of them, and no other."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from ackpt.errors import StorageError, UnsupportedError
from ackpt.testing.law import Laws, Scene, as_bulk_deleting, law, settled
from ackpt.testing.laws_key import DISTINCT_KEYS, DOUBTFUL_KEYS

ODD_NAMES = (
    *(" begins and ends with space ", "begins and ends with space"),
    *("a&b", "a&amp;b", "a&#38;b"),
    *("<Key>a</Key>", "]]>", "--", "\"quotes'"),
    *("100%", "100%25", "q?a=1&b#c+d"),
    *("grüße/日本語/😀", "grüße/日本語"),
)


class ManyDeletionLaws(Laws):
    """State what holds for every deletion of many; a backend without them skips these by its type."""

    @law
    async def test_many_are_deleted_and_nothing_else(self, scene: Scene) -> None:
        """The objects named are absent at once, to other backends too; all others are as they were."""
        bulk = scene.bulk
        doomed = [f"run/object-{number}" for number in range(12)] + ["object", "other/object-1"]
        kept = ["run/object-1.index", "run/object-100", "run/object", "run2/object-1", "object-1", "object/1"]
        if not await _can_be_inside(scene):
            kept.remove("object/1")
        for key in [*doomed, *kept]:
            await scene.put(key, key.encode())
        assert await bulk.delete_many(doomed) == {}
        for key in doomed:
            await scene.absent(key)
        for key in kept:
            await scene.holds(key, key.encode())
        assert sorted([info.key async for info in scene.another().list()]) == sorted(kept)

    @law
    async def test_absent_ones_among_many_are_no_error(self, scene: Scene) -> None:
        """Absent objects, and all of them a second time, are success; those that are there go."""
        bulk = scene.bulk
        keys = [f"object-{number}" for number in range(10)]
        for key in keys[1::3]:
            await scene.put(key, b"bytes")
        for _ in range(2):
            assert await bulk.delete_many(keys) == {}
            assert await scene.keys() == []

    @law
    async def test_as_many_are_deleted_as_the_limit_says(self, scene: Scene) -> None:
        """A request takes `delete_limit` keys, the last is deleted like the first; one will do."""
        bulk = scene.bulk
        limit = bulk.delete_limit
        assert limit >= 1
        keys = [f"folder/object-{number:04}" for number in range(limit)]
        there = {keys[0], *keys[limit // 2 : limit // 2 + 10], keys[-1]}
        for key in [*there, "folder/kept"]:
            await scene.put(key, b"bytes")
        assert await bulk.delete_many(keys) == {}
        assert await scene.keys() == ["folder/kept"]
        assert await bulk.delete_many(["folder/kept"]) == {}
        assert await scene.keys() == []

    @law
    async def test_many_odd_keys_are_deleted_as_they_are(self, scene: Scene) -> None:
        """No key is unescaped, trimmed or normalised into another, whatever the request is written in."""
        bulk = scene.bulk
        for names in (ODD_NAMES, DISTINCT_KEYS):
            for first in (0, 1):
                for key in names:
                    await scene.put(key, key.encode())
                assert await bulk.delete_many(names[first::2]) == {}
                kept = [key for key in names if key not in names[first::2]]
                assert await scene.keys() == sorted(kept)
                for key in kept:
                    assert await scene.read(key) == key.encode()
            for key in kept:
                await scene.backend.delete(key)

    @law
    async def test_many_doubtful_keys_are_never_another_object(self, scene: Scene) -> None:
        """A doubtful key deletes itself or nothing; what is refused is told."""
        bulk = scene.bulk
        for doubtful, plain in DOUBTFUL_KEYS.items():
            await scene.put(plain, b"plain")
            await scene.put("other", b"other")
            with suppress(UnsupportedError):
                assert "other" not in await bulk.delete_many([doubtful, "other"])
                assert "other" not in await scene.keys(), f"{doubtful!r} kept another from being deleted"
            assert await scene.read(plain) == b"plain", f"a delete of {doubtful!r} deleted {plain!r}"
            await scene.backend.delete(plain)

    @law
    async def test_the_empty_key_among_many_is_refused(self, scene: Scene) -> None:
        """The empty key is no name, and never stands for all: nothing is deleted."""
        bulk = scene.bulk
        for key in ["object", "folder/object"]:
            await scene.put(key, b"bytes")
        for keys in [[""], ["object", ""]]:
            with pytest.raises(UnsupportedError):
                await bulk.delete_many(keys)
        assert await scene.keys() == ["folder/object", "object"]

    @law
    async def test_deletions_of_many_at_one_time_all_succeed(self, scene: Scene) -> None:
        """Deletions of the same objects, from several backends at one time, do not disturb each other."""
        bulk = scene.bulk
        keys = [f"object-{number}" for number in range(9)]
        for key in [*keys, "kept"]:
            await scene.put(key, b"bytes")
        deleting = [bulk, as_bulk_deleting(scene.another())]
        lists = [keys, keys[::-1], keys[::2], keys[1::2]]
        results = await settled(*(deleting[n % 2].delete_many(some) for n, some in enumerate(lists)))
        assert results == [{}] * len(lists)
        assert await scene.keys() == ["kept"]

    @law
    async def test_what_is_written_after_a_deletion_of_many_stays(self, scene: Scene) -> None:
        """After a deletion of many the keys are as good as new."""
        bulk = scene.bulk
        for data in [b"first", b"second"]:
            for key in ["a", "b", "c"]:
                await scene.put(key, data)
            assert await bulk.delete_many(["a", "b", "c"]) == {}
        await scene.put("b", b"third")
        await scene.holds("b", b"third")
        assert await scene.keys() == ["b"]

    @law
    async def test_a_deletion_of_many_cancelled_anywhere_deletes_no_other(self, scene: Scene) -> None:
        """After a cancelled one each object is whole or absent, all others are there; it can be done."""
        bulk = scene.bulk
        keys = [f"object-{number}" for number in range(5)]
        await scene.put("kept", b"kept")
        for waits in range(8):
            for key in keys:
                await scene.put(key, b"bytes")
            task = asyncio.create_task(bulk.delete_many(keys))
            for _ in range(waits):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            left = await scene.keys()
            assert set(left) <= {"kept", *keys}
            assert "kept" in left
            for key in left:
                assert await scene.read(key) == (b"kept" if key == "kept" else b"bytes")
            assert await bulk.delete_many(keys) == {}
            assert await scene.keys() == ["kept"]


async def _can_be_inside(scene: Scene) -> bool:
    """Tell whether the store keeps an object and one 'inside' it."""
    await scene.put("folder", b"bytes")
    try:
        await scene.put("folder/object", b"bytes")
    except StorageError:
        return False
    finally:
        await scene.backend.delete("folder")
    await scene.backend.delete("folder/object")
    return True
