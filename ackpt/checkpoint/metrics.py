"""The caller's figures of a checkpoint: read strictly when they come, written as JSON can hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from ackpt.errors import InvalidOptionError


def read_metrics(given: Mapping[str, object] | None) -> Mapping[str, float]:
    """Return `given` as floats by name; whatever `float` takes is a figure (NumPy's, and NaN, too).

    Raises:
        InvalidOptionError: a name that is no text, or a value that is no figure.
    """
    metrics: dict[str, float] = {}
    for name, value in (given or {}).items():
        if not isinstance(name, str):
            raise InvalidOptionError(f"metrics: expected names as text, got {name!r}")
        try:
            if isinstance(value, str | bytes | bytearray):
                raise TypeError("text")
            metrics[name] = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            raise InvalidOptionError(f"metrics: expected a figure for {name!r}, got {value!r}") from None
    return MappingProxyType(metrics)


def to_json(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Write figures for JSON, which has no NaN and no infinity: as the text that `float` reads."""
    return {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}
