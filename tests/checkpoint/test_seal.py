"""Seals: what the disk holds tells nothing without the key, and with it everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.intent import declare, intent_key, read_seal
from ackpt.checkpoint.seal import Seal
from tests.checkpoint.stores import put


@given(st.text())
def test_what_is_sealed_is_opened_by_the_same_key_and_no_other(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    seal = Seal.new()
    sealed = seal.close(text)
    assert seal.open(sealed) == text
    assert Seal.new().open(sealed) is None
    again = Seal.from_text(seal.to_text())
    assert again is not None
    assert again.open(sealed) == text


def test_a_sealed_text_shows_nothing_and_looks_different_each_time() -> None:
    seal = Seal.new()
    texts = {seal.close("https://host/upload?upload_id=secret") for _ in range(10)}
    assert len(texts) == 10
    assert not any("secret" in text or "upload" in text for text in texts)
    assert seal.key.hex() not in repr(seal)


@given(st.integers(0, 300), st.integers(1, 255))
def test_what_was_changed_is_not_opened(place: int, by: int) -> None:
    seal = Seal.new()
    sealed = bytearray(seal.close("an id").encode())
    sealed[place % len(sealed)] = (sealed[place % len(sealed)] + by) % 128
    changed = sealed.decode()
    assert seal.open(changed) in (None, "an id")


@pytest.mark.parametrize("text", ["", "x", "====", "upload-1", "é", "A" * 40])
def test_what_is_not_sealed_is_not_opened(text: str) -> None:
    assert Seal.new().open(text) is None
    assert Seal.from_text(text) is None


async def test_the_key_is_kept_by_the_intent_and_by_nothing_else() -> None:
    store, seal = MemoryBackend(), Seal.new()
    assert await read_seal(store, "ckpt-5") is None
    await declare(store, prefix="ckpt-5", writer="w", seal=seal)
    assert await read_seal(store, "ckpt-5") == seal


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"seal": 5}', b'{"seal": "zz"}', b"\xff"])
async def test_an_intent_without_a_key_is_no_error(text: bytes) -> None:
    store = MemoryBackend()
    await put(store, intent_key("ckpt-5"), text)
    assert await read_seal(store, "ckpt-5") is None
