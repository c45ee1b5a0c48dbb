"""Starting an uploader process: detached from who starts it, told nothing but where the staging folder is."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ackpt.engine.agent.words import read_error, write_error
from ackpt.errors import AckptError, UploaderError

_log = logging.getLogger(__name__)

LOG = "agent.log"

_START_SECS = 60.0


def start_agent(folder: Path) -> None:
    """Start an uploader process for `folder`, and return when a trainer may come; blocking.

    It is no child of this process, has a session of its own, and logs to `agent.log` in the folder.
    The environment is passed on, where stores' credentials are found; arguments hold none.

    Raises:
        StagingLockedError, StagingError: the folder is in use, or of no use.
        UploaderError: the process cannot be started.
    """
    home = str(Path(__file__).parents[3])  # where this very package is
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ackpt", "agent", str(folder), "--detach"],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_START_SECS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UploaderError(f"the uploader process for {folder} cannot be started: {error}") from error
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UploaderError(
            f"the uploader process for {folder} did not start (status {done.returncode}): {last}; "
            f"see {folder / LOG}"
        ) from None
    if said is not None:
        raise read_error(said)


def detached(folder: Path, run: Callable[[Callable[[], None]], None]) -> int:
    """Do `run` in a process of its own, and end this one when it calls what it is given, or has failed.

    Prints what it failed of, or null, for `start_agent`, and returns the exit status. This process
    must have no other threads.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode()
        sys.stdout.write(said)
        return 0 if said == "null\n" else 1
    os.close(reading)
    os.setsid()
    status = 1

    def say(error: AckptError | None) -> None:
        os.write(writing, json.dumps(None if error is None else write_error(error)).encode() + b"\n")
        os.close(writing)

    def ready() -> None:
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd, place in ((0, nothing), (1, log), (2, log)):
            os.dup2(place, fd)
        say(None)

    try:
        run(ready)
        status = 0
    except AckptError as error:
        say(error)
    except Exception:
        _log.exception("the uploader process ends")
    finally:
        os._exit(status)  # what is behind this call belongs to the process that was forked
