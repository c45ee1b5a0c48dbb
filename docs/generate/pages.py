"""The reference pages that are made from the code, so that they cannot drift."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from docs.generate import api, laws, options, words
from docs.generate.source import ROOT

REFERENCE = ROOT / "docs" / "reference"


def pages() -> Mapping[Path, str]:
    """Return every generated page, by its path."""
    return {
        REFERENCE / "api.md": api.page(),
        REFERENCE / "backends.md": api.backends_page(),
        REFERENCE / "laws.md": laws.page(REFERENCE / "laws.json"),
        REFERENCE / "errors.md": words.errors_page(),
        REFERENCE / "events.md": words.events_page(),
        REFERENCE / "policies.md": words.policies_page(),
        REFERENCE / "url-options.md": options.page(),
    }
