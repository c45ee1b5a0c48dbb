"""What a trainer and its uploader process say to each other, in JSON's types: errors, events, policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ackpt import errors, events
from ackpt.checkpoint.retention import (
    KeepAll,
    KeepBest,
    KeepEither,
    KeepEvery,
    KeepInterval,
    KeepLast,
    Retention,
)
from ackpt.errors import AckptError, CheckpointError, InvalidOptionError, StorageError, UploaderError

Words = dict[str, object]

_POLICIES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (KeepAll, KeepBest, KeepEvery, KeepInterval, KeepLast)
}
_EVENTS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        events.Staged,
        events.Progressed,
        events.Committed,
        events.Superseded,
        events.Skipped,
        events.Failed,
        events.Parked,
        events.Deleted,
        events.ListenerFailed,
    )
}


def write_error(error: BaseException) -> Words:
    """Write an error: its class, what it says, and what was noted on its way up."""
    return {
        "class": type(error).__name__,
        "message": str(error),
        "key": getattr(error, "key", None),
        "step": getattr(error, "step", None),
        "notes": list(getattr(error, "__notes__", ())),
    }


def read_error(words: object) -> AckptError:
    """Make the error again; one of a class that is not ours is an `UploaderError` that names it."""
    found: Mapping[object, object] = words if isinstance(words, dict) else {}
    name, message = str(found.get("class")), str(found.get("message"))
    kind = getattr(errors, name, None)
    key, step = found.get("key"), found.get("step")
    error: AckptError
    if not (isinstance(kind, type) and issubclass(kind, AckptError)):
        error = UploaderError(f"the uploader process failed with {name}: {message}")
    elif issubclass(kind, StorageError):
        error = kind(message, key=key if isinstance(key, str) else None)
    elif issubclass(kind, CheckpointError):
        error = kind(message, step=step if isinstance(step, int) else None)
    else:
        error = kind(message)
    notes = found.get("notes")
    for note in notes if isinstance(notes, list) else ():
        error.add_note(str(note))
    return error


def write_event(event: events.Event) -> Words:
    """Write an event."""
    fields: Words = {each.name: getattr(event, each.name) for each in dataclasses.fields(event)}
    if isinstance(error := fields.get("error"), BaseException):
        fields["error"] = write_error(error)
    return {"event": type(event).__name__, **fields}


def read_event(words: Mapping[str, object]) -> events.Event:
    """Make the event again.

    Raises:
        KeyError, TypeError: it is none.
    """
    kind = _EVENTS[str(words["event"])]
    names = {each.name for each in dataclasses.fields(kind)}
    fields = {name: value for name, value in words.items() if name in names}
    if "error" in fields:
        fields["error"] = read_error(fields["error"])
    event: events.Event = kind(**fields)
    return event


def write_policy(policy: Retention) -> Words:
    """Write a retention policy of ours.

    Raises:
        InvalidOptionError: one that somebody else has made; its code is in the trainer alone.
    """
    if type(policy) is KeepEither:
        return {"either": [write_policy(policy.first), write_policy(policy.second)]}
    kind: type[Any] = type(policy)
    if kind not in _POLICIES.values():
        raise InvalidOptionError(
            f"retention: with uploader='process' expected one of ackpt's own ({', '.join(_POLICIES)}, or "
            f"some of them combined with |), got {policy!r}; leave out 'uploader' to use it"
        )
    fields: Words = {each.name: getattr(policy, each.name) for each in dataclasses.fields(kind)}
    return {"policy": kind.__name__, **fields}


def read_policy(words: Mapping[str, object]) -> Retention:
    """Make the policy again.

    Raises:
        KeyError, TypeError, InvalidOptionError: it is none.
    """
    either = words.get("either")
    if isinstance(either, list):
        first, second = either
        return KeepEither(read_policy(first), read_policy(second))
    fields = {name: value for name, value in words.items() if name != "policy"}
    policy: Retention = _POLICIES[str(words["policy"])](**fields)
    return policy
