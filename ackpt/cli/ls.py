"""`ackpt ls URL`: the committed checkpoints of a run."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from functools import partial

from ackpt.checkpoint.catalog import Entry, list_entries, load_manifest
from ackpt.checkpoint.hold import pinned
from ackpt.checkpoint.manifest import Manifest
from ackpt.checkpoint.metrics import to_json
from ackpt.cli.command import Command, add_url, with_store
from ackpt.engine.store import Store
from ackpt.errors import CorruptCheckpointError, NotFoundError
from ackpt.options import written_size
from ackpt.transfer.fan_out import fan_out

_READS_AT_ONCE = 16


def _add_arguments(parser: ArgumentParser) -> None:
    add_url(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _run(arguments: Namespace) -> int:
    return with_store(arguments.url, partial(_list, as_json=arguments.json))


async def _list(store: Store, *, as_json: bool) -> int:
    backend = store.reliable()

    async def read(entry: Entry) -> Manifest | str:
        try:
            return await load_manifest(backend, entry)
        except (CorruptCheckpointError, NotFoundError) as error:
            return str(error)

    entries = await list_entries(backend)
    manifests = await fan_out((partial(read, entry) for entry in entries), limit=_READS_AT_ONCE)
    pins = set(await pinned(backend))
    for entry, manifest in zip(entries, manifests, strict=True):
        print((_as_json if as_json else _as_line)(entry, manifest, entry.prefix in pins))
    if not entries and not as_json:
        print(f"no committed checkpoint in {store.name}")
    return 1 if any(isinstance(each, str) for each in manifests) else 0


def _as_line(entry: Entry, manifest: Manifest | str, pinned: bool) -> str:
    if isinstance(manifest, str):
        return f"{entry.prefix}  damaged: {manifest}"
    time = manifest.created.isoformat(sep=" ", timespec="seconds")
    line = f"{entry.prefix}  {written_size(manifest.size):>10}  {len(manifest.objects):>5} objects  {time}"
    return f"{line}  pinned" if pinned else line


def _as_json(entry: Entry, manifest: Manifest | str, pinned: bool) -> str:
    if isinstance(manifest, str):
        return json.dumps({"step": entry.step, "prefix": entry.prefix, "error": manifest})
    return json.dumps(
        {
            "step": entry.step,
            "prefix": entry.prefix,
            "size": manifest.size,
            "objects": len(manifest.objects),
            "created": manifest.created.isoformat(),
            "attempt": manifest.attempt,
            "metrics": to_json(manifest.metrics),
            "pinned": pinned,
        }
    )


LS = Command(name="ls", help="list the committed checkpoints", add_arguments=_add_arguments, run=_run)
