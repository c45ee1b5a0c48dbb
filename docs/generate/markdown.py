"""Markdown, made from docstrings: one sentence a line, errors as a list."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

NOTE = "<!-- Written by `make reference` from the code; change it there. -->\n"


def prose(said: str) -> str:
    """Write a docstring: paragraphs, then what it raises as a list."""
    said, _, raises = said.partition("Raises:\n")
    parts = [sentences(said)]
    if raises:
        items = re.split(r"\n(?=\S)", textwrap.dedent(raises).strip())
        parts.append("Raises:\n\n" + "\n".join(f"- {' '.join(item.split())}" for item in items))
    return join(parts).strip()


def sentences(said: str) -> str:
    """Fill paragraphs anew, with one sentence a line."""
    paragraphs = [" ".join(part.split()) for part in said.strip().split("\n\n")]
    return "\n\n".join(re.sub(r"(?<=[^.]\.) (?=[A-Z`])", "\n", part) for part in paragraphs)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def join(parts: Iterable[str]) -> str:
    """Put paragraphs together into a page; empty ones are left out."""
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"
