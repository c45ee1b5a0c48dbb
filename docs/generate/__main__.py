"""Write the reference pages that are made from the code, or with `--check` say which are stale.

`python -m docs.generate [--check]`, in a process that has registered no backends of its own.
"""

from __future__ import annotations

import sys

from docs.generate.pages import REFERENCE, pages


def main() -> int:
    """Write, or check; return the exit code."""
    made = pages()
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path} is not what the code says: run `make reference`")
        return 1 if stale else 0
    REFERENCE.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(made[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
