"""The test kit, for backend authors too: a conformance suite, faults, and whole saves through them.

The suites need pytest; the faults do not. So each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ackpt.errors import MissingDependencyError

if TYPE_CHECKING:
    from ackpt.testing.conformance import BackendConformance
    from ackpt.testing.faults import (
        CorruptedGet,
        CorruptedPut,
        Crash,
        ExpiredToken,
        ExpiredUpload,
        Fails,
        Fault,
        LostReply,
        Request,
        Reset,
        SimulatedCrash,
        Slow,
        Stall,
        TruncatedGet,
        TruncatedPut,
        Unavailable,
    )
    from ackpt.testing.faulty import (
        FaultyBackend,
        FaultyBulkDeletingBackend,
        FaultyCopyingBackend,
        FaultyMultipartBackend,
        FaultyUpload,
        inject,
    )
    from ackpt.testing.scenarios import Scenarios
    from ackpt.testing.script import FaultScript, On, RandomFaults, Script

__all__ = [
    "BackendConformance",
    "CorruptedGet",
    "CorruptedPut",
    "Crash",
    "ExpiredToken",
    "ExpiredUpload",
    "Fails",
    "Fault",
    "FaultScript",
    "FaultyBackend",
    "FaultyBulkDeletingBackend",
    "FaultyCopyingBackend",
    "FaultyMultipartBackend",
    "FaultyUpload",
    "LostReply",
    "On",
    "RandomFaults",
    "Request",
    "Reset",
    "Scenarios",
    "Script",
    "SimulatedCrash",
    "Slow",
    "Stall",
    "TruncatedGet",
    "TruncatedPut",
    "Unavailable",
    "inject",
]

_HOMES = {
    "BackendConformance": "conformance",
    "FaultyBackend": "faulty",
    "FaultyBulkDeletingBackend": "faulty",
    "FaultyCopyingBackend": "faulty",
    "FaultyMultipartBackend": "faulty",
    "FaultyUpload": "faulty",
    "inject": "faulty",
    "Scenarios": "scenarios",
    "FaultScript": "script",
    "On": "script",
    "RandomFaults": "script",
    "Script": "script",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module (PEP 562).

    Raises:
        MissingDependencyError: it needs a package that is not installed.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOMES.get(name, 'faults')}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __name__.partition(".")[0]:
            raise
        raise MissingDependencyError(
            f"ackpt.testing.{name} needs the package {error.name!r}, which is not installed; "
            "run: pip install 'ackpt[testing]'"
        ) from error
    found: object = getattr(home, name)
    return found
