"""The test kit, for backend authors too: a conformance suite and a fault-injecting backend.

The suite needs pytest; the faults do not, so each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ackpt.testing.conformance import BackendConformance

__all__ = ["BackendConformance"]

_HOMES = {"BackendConformance": "ackpt.testing.conformance"}


def __getattr__(name: str) -> object:
    """Load a public name from its module (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
