"""The code in the documentation, as something that can be run: a page's blocks, in order, in one namespace.

What a page may say about its blocks, in HTML comments that no reader sees:

    <!-- needs: tensorflow_estimator -->    anywhere: the page is run only where this can be imported
    <!-- set-up: … -->                      Python, run before the next block
    <!-- output -->                         the next block (`text`) is what the one before it prints
    <!-- not run: reason -->                the next block is not run
    <!-- file: name -->                     the next block is written to this file, behind what is there

Other blocks in `python` and `bash` are run, all others are not. As a command,
`python -m tests.documents PAGE` runs one page in the current folder.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

_TOKEN = re.compile(
    r"^<!--\s*(?P<word>needs|set-up|output|not run|file)\b:?(?P<said>.*?)-->[ \t]*$"
    r"|^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_BASH_SECS = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Hold one fenced block: where it begins (its first line of code, from 1), and what was said of it."""

    language: str
    code: str
    line: int
    set_up: str = ""
    set_up_line: int = 0
    is_output: bool = False
    not_run: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Hold the blocks of one page, and the modules that it needs."""

    path: Path
    blocks: tuple[Block, ...]
    needs: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Tell whether there is anything to run."""
        return any(block.language in ("python", "bash") and not block.not_run for block in self.blocks)


def read_page(path: Path) -> Page:
    """Take a page apart."""
    text = path.read_text()
    blocks: list[Block] = []
    needs: list[str] = []
    said: dict[str, tuple[str, int]] = {}
    for match in _TOKEN.finditer(text):
        if match["word"] == "needs":
            needs.append(match["said"].strip())
        elif match["word"] is not None:
            said[match["word"]] = (match["said"], _line(text, match.start("said")))
        else:
            set_up, set_up_line = said.get("set-up", ("", 0))
            blocks.append(
                Block(
                    language=match["language"],
                    code=match["code"],
                    line=_line(text, match.start("code")),
                    set_up=set_up,
                    set_up_line=set_up_line,
                    is_output="output" in said,
                    not_run=said.get("not run", ("", 0))[0].strip(),
                    file=said.get("file", ("", 0))[0].strip(),
                )
            )
            said.clear()
    if said:
        raise ValueError(f"{path}: {sorted(said)} is said of a block, and no block follows")
    return Page(path=path, blocks=tuple(blocks), needs=tuple(needs))


def run_page(page: Page) -> None:
    """Run the blocks of a page, in the current folder.

    Raises:
        AssertionError: a block printed something else than the page says.
        Exception: whatever a block raised.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in page.blocks:
        if block.set_up:
            exec(_compile(block.set_up, page.path, block.set_up_line), namespace)
        if block.is_output:
            assert printed == block.code, (
                f"{page.path}:{block.line}: expected\n{block.code}\nbut this was printed\n{printed}"
            )
        elif block.not_run:
            continue
        elif block.file:
            with Path(block.file).open("a") as file:
                file.write(f"{block.code}\n")
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(_compile(block.code, page.path, block.line), namespace)
            printed = output.getvalue()
        elif block.language == "bash":
            printed = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.code],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                timeout=_BASH_SECS,
            ).stdout


def _compile(code: str, path: Path, line: int) -> CodeType:
    """Compile code so that tracebacks show the page's lines."""
    return compile("\n" * (line - 1) + code, str(path), "exec", dont_inherit=True)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


if __name__ == "__main__":
    run_page(read_page(Path(sys.argv[1])))
