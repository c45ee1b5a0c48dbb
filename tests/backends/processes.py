"""Child processes that use the file backend, to be raced or killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HEAD = """
import asyncio, os, signal, sys
from pathlib import Path
from ackpt.backends.base import *
from ackpt.backends.file import FileBackend
from ackpt.errors import *
from ackpt.testing.bodies import StallingBody
from ackpt.transfer.body import BytesBody
root = sys.argv[1]
backend = FileBackend(root)
def say(text):
    print(text, flush=True)
"""


@contextmanager
def child(root: Path, code: str, *wrapper: str) -> Iterator[subprocess.Popen[str]]:
    """Run `code`, the body of a coroutine; the child is killed at the end if it still lives."""
    text = _HEAD + "async def main():\n" + textwrap.indent(textwrap.dedent(code), "    ")
    text += "\nasyncio.run(main())\n"
    repository = Path(__file__).parents[2]
    process = subprocess.Popen(
        [*wrapper, sys.executable, "-c", text, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def hear(process: subprocess.Popen[str]) -> str:
    """Wait for the next line of a child."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line and process.stderr is not None:
        line = process.stderr.read()
    return line


def tell(process: subprocess.Popen[str], text: str) -> None:
    """Send a line to a child."""
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()
