"""The laws of conditions, on which every commit stands."""

from __future__ import annotations

from contextlib import suppress

import pytest

from ackpt.backends.base import Backend, Condition, IfAbsent, IfVersion, ObjectInfo
from ackpt.errors import AlreadyExistsError, ConditionFailedError, TransientError
from ackpt.testing.law import Laws, Scene, body_of, law, settled

WRITERS = 8


class ConditionLaws(Laws):
    """State what holds for conditional puts in every store."""

    @law
    async def test_if_absent_creates(self, scene: Scene) -> None:
        """A create-only put writes where there is nothing."""
        info = await scene.put("object", b"new", IfAbsent())
        await scene.holds("object", b"new")
        assert (await scene.backend.head("object")).version == info.version

    @law
    async def test_if_absent_leaves_what_is_there(self, scene: Scene) -> None:
        """A create-only put over an object is an AlreadyExistsError, and leaves it as it was."""
        old = await scene.put("object", b"old")
        with pytest.raises(AlreadyExistsError) as caught:
            await scene.put("object", b"new", IfAbsent())
        assert caught.value.key == "object"
        await scene.holds("object", b"old")
        assert (await scene.backend.head("object")).version == old.version

    @law
    async def test_if_absent_sees_an_empty_object(self, scene: Scene) -> None:
        """An object without bytes counts as there."""
        await scene.put("object", b"")
        with pytest.raises(AlreadyExistsError):
            await scene.put("object", b"new", IfAbsent())
        await scene.holds("object", b"")

    @law
    async def test_if_absent_of_the_same_bytes_fails_too(self, scene: Scene) -> None:
        """A create-only put does not compare contents."""
        await scene.put("object", b"same", IfAbsent())
        with pytest.raises(AlreadyExistsError):
            await scene.put("object", b"same", IfAbsent())

    @law
    async def test_if_absent_creates_after_a_delete(self, scene: Scene) -> None:
        """A deleted object is absent."""
        await scene.put("object", b"old")
        await scene.backend.delete("object")
        await scene.put("object", b"new", IfAbsent())
        await scene.holds("object", b"new")

    @law
    async def test_if_version_replaces_that_version(self, scene: Scene) -> None:
        """A put over the version that put, head or list told writes, and makes a new one."""
        first = await scene.put("object", b"1")
        second = await scene.put("object", b"2", IfVersion(first.version))
        head = await scene.backend.head("object")
        assert head.version == second.version != first.version
        third = await scene.put("object", b"3", IfVersion(head.version))
        listed = [info async for info in scene.backend.list("object")]
        assert [info.version for info in listed] == [third.version]
        await scene.put("object", b"4", IfVersion(listed[0].version))
        await scene.holds("object", b"4")

    @law
    async def test_if_version_leaves_another_version(self, scene: Scene) -> None:
        """A put over a stale version is a ConditionFailedError, and leaves the object as it was."""
        stale = await scene.put("object", b"old")
        now = await scene.put("object", b"now")
        with pytest.raises(ConditionFailedError) as caught:
            await scene.put("object", b"new", IfVersion(stale.version))
        assert not isinstance(caught.value, AlreadyExistsError)
        assert caught.value.key == "object"
        await scene.holds("object", b"now")
        assert (await scene.backend.head("object")).version == now.version

    @law
    async def test_if_version_of_nothing_creates_nothing(self, scene: Scene) -> None:
        """A put over a version of a deleted object is a ConditionFailedError, and makes none."""
        gone = await scene.put("object", b"old")
        await scene.backend.delete("object")
        with pytest.raises(ConditionFailedError):
            await scene.put("object", b"new", IfVersion(gone.version))
        await scene.absent("object")

    @law
    async def test_if_version_knows_the_same_bytes_written_again(self, scene: Scene) -> None:
        """Equal bytes do not make an equal version: not after a rewrite, not after a delete."""
        first = await scene.put("object", b"same")
        await scene.put("object", b"same")
        with pytest.raises(ConditionFailedError):
            await scene.put("object", b"new", IfVersion(first.version))
        await scene.backend.delete("object")
        await scene.put("object", b"same")
        with pytest.raises(ConditionFailedError):
            await scene.put("object", b"new", IfVersion(first.version))
        await scene.holds("object", b"same")

    @law
    async def test_a_failed_condition_leaves_the_other_keys(self, scene: Scene) -> None:
        """A condition is about its own key alone."""
        other = await scene.put("other", b"other")
        await scene.put("object", b"object", IfAbsent())
        with pytest.raises(ConditionFailedError):
            await scene.put("object", b"new", IfVersion(other.version))
        await scene.holds("other", b"other")

    @law
    async def test_of_many_creators_one_wins(self, scene: Scene) -> None:
        """Of create-only puts at one time, from several backends, exactly one writes."""
        scene.many_writers()
        for turn in range(4):
            await _one_wins(scene, f"object-{turn}", IfAbsent())

    @law
    async def test_of_many_replacers_one_wins(self, scene: Scene) -> None:
        """Of puts over one version at one time, from several backends, exactly one writes."""
        scene.many_writers()
        for turn in range(4):
            start = await scene.put(f"object-{turn}", b"start")
            await _one_wins(scene, f"object-{turn}", IfVersion(start.version))

    @law
    async def test_no_increment_is_lost(self, scene: Scene) -> None:
        """Writers that read, add one and put over the version they read count right together."""
        scene.many_writers()
        await scene.put("counter", b"0")
        backends = [scene.another() for _ in range(3)]

        async def increment(backend: Backend) -> int:
            done = 0
            for _ in range(6):
                head = await backend.head("counter")
                count = int(await scene.read("counter"))
                # A refusal, or a collision that the core would retry, counts as not done.
                with suppress(ConditionFailedError, TransientError):
                    await backend.put(
                        "counter", body_of(b"%d" % (count + 1)), condition=IfVersion(head.version)
                    )
                    done += 1
            return done

        dones = await settled(*(increment(backend) for backend in backends))
        assert all(isinstance(done, int) for done in dones), dones
        assert int(await scene.read("counter")) == sum(done for done in dones if isinstance(done, int))


async def _one_wins(scene: Scene, key: str, condition: Condition) -> None:
    backends = [scene.backend, scene.another()]
    results = await settled(
        *(
            backends[number % 2].put(key, body_of(b"writer %d" % number), condition=condition)
            for number in range(WRITERS)
        )
    )
    winners = [number for number, result in enumerate(results) if isinstance(result, ObjectInfo)]
    assert len(winners) == 1, f"{len(winners)} of {WRITERS} writers under {condition} were told they won"
    for number, result in enumerate(results):
        assert number in winners or isinstance(result, ConditionFailedError | TransientError), result
    await scene.holds(key, b"writer %d" % winners[0])
