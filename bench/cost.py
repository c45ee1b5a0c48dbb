"""What moving bytes costs a process: wall time, CPU time, and how far its memory grows over idle."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

GIB = 2**30
PEERS = Path(sys.prefix, "peers")
"""Peers that do not go together with the versions in `constraints/`, each in a folder of its own."""


def installed(module: str) -> bool:
    """Tell whether a client can be measured here."""
    return Path(PEERS, module).is_dir() or ("-" not in module and _found(module))


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def environment(module: str, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that measures a client."""
    folders = [str(PEERS / module)] if Path(PEERS, module).is_dir() else []
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*folders, str(Path(__file__).resolve().parent.parent)]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # No client is to look for a metadata server.
        "NO_GCE_CHECK": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        # gcsfs waits a minute for each bucket of an emulator otherwise.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        **more,
    }


async def cost(
    work: Callable[[Sequence[Path]], Awaitable[None]], first: Path, files: Sequence[Path]
) -> dict[str, float]:
    """Work on `files`; before that on `first`, uncounted, which loads, connects and starts threads."""
    await work([first])
    gc.collect()
    _forget_peak()
    idle = _memory("VmRSS")
    cpu = _cpu()
    started = time.perf_counter()
    await work(files)
    wall = time.perf_counter() - started
    return {"wall": wall, "cpu": _cpu() - cpu, "memory": (_memory("VmHWM") - idle) / 1024}


def _forget_peak() -> None:
    """Make the peak count anew: https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html."""
    Path("/proc/self/clear_refs").write_text("5")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _memory(what: str) -> int:
    """Return a figure of this process in KiB."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])
