"""Calls to the uploader process of a staging folder by those who are not its trainer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ackpt.engine.agent.place import connect
from ackpt.engine.agent.wire import Document, Line, LineLostError
from ackpt.errors import AckptError, UploaderError

VERSION = 2
"""Of what is said on the line; both sides come with the same installation, save in an upgrade."""

_LEAVE_SECS = 10.0


async def finish(folder: Path) -> bool:
    """Have what lies staged in `folder` finished, if a process without a trainer is at it; tell whether.

    Waits for it, however long the process is at it: its retries have limits.
    """
    line = await reach(folder)
    if line is None:
        return False
    try:
        return not (await line.ask("finish")).get("busy")
    except AckptError:
        return False
    finally:
        await line.aclose()


async def dismiss(folder: Path) -> bool:
    """Let a process without a trainer finish what lies in `folder`, and leave; tell whether it did."""
    line = await reach(folder)
    if line is None:
        return False
    try:
        await line.ask("leave")
        async with asyncio.timeout(_LEAVE_SECS):
            await line.gone()
    except LineLostError:
        return True
    except (AckptError, TimeoutError):
        return False
    finally:
        await line.aclose()
    return True


async def reach(folder: Path) -> Line | None:
    """Open a line to the process, None where there is none; for one who is asked nothing by it."""
    connection = await asyncio.to_thread(connect, folder)
    if connection is None:
        return None
    line = await Line.open(connection, answer=_refuse, hear=_ignore)
    line.listen_for_life()
    return line


async def _refuse(name: str, document: Document) -> Document:
    raise UploaderError(f"{name}: nobody here answers that")


def _ignore(name: str, document: Document) -> None:
    """Hear signs of life, and what concerns a trainer."""
