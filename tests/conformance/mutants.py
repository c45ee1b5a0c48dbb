"""All mutants: importing this enters them in `CAUGHT_BY`."""

from __future__ import annotations

from . import (
    mutants_condition,
    mutants_copy,
    mutants_delete_many,
    mutants_integrity,
    mutants_key,
    mutants_object,
    mutants_upload,
)
from .mutant import CAUGHT_BY

__all__ = [
    "CAUGHT_BY",
    "mutants_condition",
    "mutants_copy",
    "mutants_delete_many",
    "mutants_integrity",
    "mutants_key",
    "mutants_object",
    "mutants_upload",
]
