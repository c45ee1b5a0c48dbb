"""What crosses the line comes out as it went in."""

from __future__ import annotations

import pytest

from ackpt.checkpoint.retention import KeepAll, KeepBest, KeepEvery, KeepInterval, KeepLast, Retention
from ackpt.engine.agent.words import (
    read_error,
    read_event,
    read_policy,
    write_error,
    write_event,
    write_policy,
)
from ackpt.errors import FencedError, NotFoundError, StorageError, TransientError, UploaderError, explain
from ackpt.events import Committed, Deleted, Event, Failed, Parked, Progressed, Staged


@pytest.mark.parametrize(
    "policy",
    [
        KeepAll(),
        KeepLast(3),
        KeepEvery(100) | KeepBest(2, "loss", "max"),
        KeepLast(1) | KeepInterval(3600.0) | KeepEvery(5),
    ],
)
def test_a_policy_is_the_same_there(policy: Retention) -> None:
    assert read_policy(write_policy(policy)) == policy


def test_an_error_has_its_class_its_words_and_its_notes() -> None:
    error = TransientError("the store is busy", key="ckpt-1.index")
    error.add_note("tried 3 times")
    there = read_error(write_error(error))
    assert type(there) is TransientError
    assert there.key == "ckpt-1.index"
    assert explain(there) == "the store is busy; tried 3 times"
    fenced = read_error(write_error(FencedError("taken over", step=7)))
    assert isinstance(fenced, FencedError)
    assert fenced.step == 7
    assert isinstance(read_error(write_error(NotFoundError("gone"))), StorageError)


def test_an_error_of_somebody_else_is_an_uploader_error_that_names_it() -> None:
    there = read_error(write_error(ZeroDivisionError("by zero")))
    assert type(there) is UploaderError
    assert str(there) == "the uploader process failed with ZeroDivisionError: by zero"
    assert type(read_error({"class": "explain", "message": "no class"})) is UploaderError
    assert type(read_error(None)) is UploaderError


@pytest.mark.parametrize(
    "event",
    [
        Staged(step=1, target="t", size=5, stage_secs=0.5),
        Progressed(step=1, target="t", sent=1, size=5),
        Committed(step=1, target="t", prefix="c-1", size=5, stall_secs=0, stage_secs=1.0, upload_secs=2.0),
        Parked(step=1, target="t", folder="/f"),
        Deleted(step=1, target="t", prefix="c-1"),
    ],
)
def test_an_event_is_the_same_there(event: Event) -> None:
    assert read_event(write_event(event)) == event


def test_a_failure_has_its_error_there() -> None:
    event = read_event(write_event(Failed(step=1, target="t", error=FencedError("taken over"), staged=True)))
    assert isinstance(event, Failed)
    assert isinstance(event.error, FencedError)
    assert event.staged
