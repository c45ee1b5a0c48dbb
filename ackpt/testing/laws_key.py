"""The laws of keys: any text that the store allows is kept as it is, and nothing else is touched."""

from __future__ import annotations

from contextlib import suppress

import pytest

from ackpt.errors import StorageError
from ackpt.testing.law import Laws, Scene, law

ODD_KEYS = (
    "with space",
    " begins and ends with space ",
    "percent%20sign",
    "100%",
    "question?mark=1&b=2",
    "hash#tag",
    "plus+plus",
    "semi;colon:and,comma",
    "quotes'\"`",
    "brackets[0](1){2}<3>",
    "dollar$at@bang!star*tilde~",
    "back\\slash",
    "equals=amp&",
    "pipe|caret^",
    "grüße/日本語/😀",
    ".hidden",
    "..two.dots..",
    "trailing.",
    "UPPER/lower",
    "model.ckpt-1000.data-00000-of-00003",
)

DISTINCT_KEYS = (
    *("a b", "a+b", "a%20b", "a%2Bb"),
    *("a%2Fb", "a%252Fb"),
    *("Case", "case"),
    *("caf\u00e9", "cafe\u0301"),
    *("q", "q?", "q?x=1", "q#", "q#x"),
)

DOUBTFUL_KEYS = {
    "a//b": "a/b",
    "a/./b": "a/b",
    "a/../b": "b",
    "./b": "b",
    "/b": "b",
    "b/": "b",
    "../b": "b",
    "c/..": "c",
    "d/.": "d",
}


class KeyLaws(Laws):
    """State what holds for keys in every store."""

    @law
    async def test_odd_keys_are_kept_as_they_are(self, scene: Scene) -> None:
        """Spaces, signs, percent signs and any letters go through every request unharmed."""
        for number, key in enumerate(ODD_KEYS):
            data = f"bytes {number}".encode()
            info = await scene.put(key, data)
            assert info.key == key
            assert (await scene.backend.head(key)).key == key
            assert await scene.read(key) == data, f"wrong bytes for {key!r}"
            assert await scene.keys(key) == [key], f"not found by its whole name: {key!r}"
        assert await scene.keys() == sorted(ODD_KEYS)
        for key in ODD_KEYS:
            await scene.backend.delete(key)
        assert await scene.keys() == []

    @law
    async def test_long_keys_are_kept_as_they_are(self, scene: Scene) -> None:
        """A key of 700 bytes works, in segments of 200."""
        key = "/".join(letter * 200 for letter in "abc") + "/" + "d" * 97
        await scene.put(key, b"bytes")
        await scene.holds(key, b"bytes")
        assert await scene.keys("a" * 200 + "/b") == [key]

    @law
    async def test_keys_that_look_alike_are_different_objects(self, scene: Scene) -> None:
        """No key is unescaped, case-folded or normalised into another."""
        for number, key in enumerate(DISTINCT_KEYS):
            await scene.put(key, str(number).encode())
        for number, key in enumerate(DISTINCT_KEYS):
            assert await scene.read(key) == str(number).encode(), f"another object under {key!r}"

    @law
    async def test_doubtful_keys_work_or_are_refused(self, scene: Scene) -> None:
        """Empty segments, dots and outer slashes are kept as they are, or refused; never another object."""
        for doubtful, plain in DOUBTFUL_KEYS.items():
            await scene.put(plain, b"plain")
            try:
                await scene.put(doubtful, b"doubtful")
            except StorageError:
                kept = {plain: b"plain"}
            else:
                kept = {plain: b"plain", doubtful: b"doubtful"}
            assert await scene.keys() == sorted(kept), f"wrong after a put to {doubtful!r}"
            for key, data in kept.items():
                assert await scene.read(key) == data, f"a put to {doubtful!r} wrote to {key!r}"
                await scene.backend.delete(key)

    @law
    async def test_doubtful_keys_are_never_another_object(self, scene: Scene) -> None:
        """A read, a list or a delete of a doubtful key finds itself or nothing."""
        for doubtful, plain in DOUBTFUL_KEYS.items():
            await scene.put(plain, b"plain")
            with pytest.raises(StorageError):
                await scene.backend.head(doubtful)
            with pytest.raises(StorageError):
                await scene.read(doubtful)
            with suppress(StorageError):
                await scene.backend.delete(doubtful)
            assert await scene.read(plain) == b"plain", f"a delete of {doubtful!r} deleted {plain!r}"
            await scene.backend.delete(plain)

    @law
    async def test_a_key_below_another_key_works_or_is_refused(self, scene: Scene) -> None:
        """An object and one 'inside' it live side by side, or the second is refused; none is lost."""
        for first, second in [("up", "up/down"), ("low/high", "low")]:
            await scene.put(first, b"first")
            try:
                await scene.put(second, b"second")
            except StorageError:
                assert await scene.keys(first[:2]) == [first]
            else:
                assert await scene.keys(first[:2]) == sorted([first, second])
                assert await scene.read(second) == b"second"
            assert await scene.read(first) == b"first"

    @law
    async def test_the_empty_key_is_refused(self, scene: Scene) -> None:
        """There is no object without a name."""
        with pytest.raises(StorageError):
            await scene.put("", b"bytes")
        assert await scene.keys() == []
