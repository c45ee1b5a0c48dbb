"""Write the reference pages that are made from the code: `python -m docs.generate`."""

from __future__ import annotations

from docs.generate.pages import REFERENCE, pages

REFERENCE.mkdir(exist_ok=True)
for path, text in pages().items():
    path.write_text(text)
