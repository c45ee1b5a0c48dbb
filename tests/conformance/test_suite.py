"""The conformance suite itself: it catches planted lies, and cannot be opted out of silently."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest

from ackpt.backends.base import Backend, SingleWriter
from ackpt.backends.memory import MemoryBackend, MemoryStore
from ackpt.errors import AckptError
from ackpt.testing import BackendConformance
from ackpt.testing.law import MakeBackend, is_law

from .mutants import CAUGHT_BY


class Suite(BackendConformance):
    __test__ = False
    law_timeout_secs = 5.0


def opener(kind: type[MemoryBackend]) -> MakeBackend:
    store = MemoryStore()
    return lambda: kind(store, "run")


@pytest.mark.parametrize("mutant", CAUGHT_BY, ids=lambda mutant: mutant.__name__)
async def test_each_lie_is_caught_by_its_law(mutant: type[MemoryBackend]) -> None:
    law = CAUGHT_BY[mutant]
    await Suite.check(law, opener(MemoryBackend))
    with pytest.raises((AssertionError, AckptError, StopAsyncIteration, pytest.fail.Exception)) as caught:
        await Suite.check(law, opener(mutant))
    assert caught.value.__notes__ == [f"the law: {Suite.laws()[law]}"]


def test_every_class_of_laws_catches_something() -> None:
    caught = set(CAUGHT_BY.values())
    assert len(CAUGHT_BY) >= 25
    assert caught <= Suite.laws().keys()
    for kind in BackendConformance.__bases__:
        laws = {name for name, value in vars(kind).items() if is_law(value)}
        assert not laws or caught & laws, f"no mutant for {kind.__name__}"


def test_overriding_a_law_is_an_error() -> None:
    with pytest.raises(TypeError, match="Mine overrides the law test_the_empty_key_is_refused"):

        class Mine(BackendConformance):
            async def test_the_empty_key_is_refused(self, make_backend: MakeBackend) -> None:
                return None


def test_removing_a_law_is_an_error() -> None:
    with pytest.raises(TypeError, match="overrides the law"):

        class Mine(BackendConformance):
            test_the_empty_key_is_refused = None


def test_overriding_a_law_by_a_mixin_is_an_error() -> None:
    class Mixin:
        async def test_the_empty_key_is_refused(self, make_backend: MakeBackend) -> None:
            return None

    with pytest.raises(TypeError, match="overrides the law"):

        class Mine(Mixin, BackendConformance):
            pass


def test_excusing_what_is_no_law_is_an_error() -> None:
    with pytest.raises(TypeError, match="'test_puts', which is no law"):

        class Mine(BackendConformance):
            cannot: ClassVar = {"test_puts": "the store is read-only"}


def test_excusing_a_law_without_a_reason_is_an_error() -> None:
    with pytest.raises(TypeError, match="no reason"):

        class Mine(BackendConformance):
            cannot: ClassVar = {"test_the_empty_key_is_refused": " "}


async def test_an_excused_law_is_an_expected_failure_with_its_reason() -> None:
    class Mine(BackendConformance):
        __test__ = False
        cannot: ClassVar = {"test_the_empty_key_is_refused": "the store names it for you"}

    with pytest.raises(pytest.xfail.Exception, match="cannot, because the store names it for you"):
        await Mine.check("test_the_empty_key_is_refused", opener(MemoryBackend))


class Plain(Backend):
    """Have no uploads, and conditions in two steps."""

    def __init__(self, inner: MemoryBackend) -> None:
        self.put, self.get, self.head = inner.put, inner.get, inner.head
        self.list, self.delete = inner.list, inner.delete

    from_url = put = get = head = list = delete = None  # the instance has them


class PlainSingle(Plain, SingleWriter):
    pass


@pytest.mark.parametrize(
    ("kind", "law", "why"),
    [
        (Plain, "test_parts_make_the_object", "not a MultipartBackend"),
        (PlainSingle, "test_of_many_creators_one_wins", "SingleWriter"),
    ],
)
async def test_what_a_type_cannot_do_is_skipped(kind: type[Plain], law: str, why: str) -> None:
    with pytest.raises(pytest.skip.Exception, match=why):
        await Suite.check(law, lambda: kind(MemoryBackend()))
    await Suite.check("test_put_then_get_gives_the_same_bytes", lambda: kind(MemoryBackend()))


def test_a_kit_without_pytest_names_its_extra() -> None:
    code = "import sys; sys.modules['pytest'] = None; from ackpt.testing import inject, BackendConformance"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (
        "MissingDependencyError: ackpt.testing.BackendConformance needs the package 'pytest'" in done.stderr
    )
    assert "pip install 'ackpt[testing]'" in done.stderr


def test_every_law_has_a_sentence() -> None:
    for name, sentence in Suite.laws().items():
        assert sentence.endswith("."), name
        assert "\n" not in sentence, name
