"""What a backend is able to do is its type: a wrapper gets a type that says the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import new_class
from typing import TypeVar

from ackpt.backends.base import Backend

W = TypeVar("W")


def able_as(backend: Backend, plain: type[W], wrappers: Mapping[type, type[W]]) -> type[W]:
    """Return the wrapper class for `backend`: `plain`, or the one or several that its abilities ask for.

    `wrappers` says for each ability, a type such as `MultipartBackend`, which subclass of `plain`
    has it; a class for several is made of theirs, which must call `super().__init__`.
    """
    kinds = tuple(wrapper for ability, wrapper in wrappers.items() if isinstance(backend, ability))
    return _joined(kinds) if kinds else plain


@cache
def _joined(kinds: tuple[type[W], ...]) -> type[W]:
    if len(kinds) == 1:
        return kinds[0]
    made: type[W] = new_class("".join(kind.__name__ for kind in kinds), kinds)
    return made
