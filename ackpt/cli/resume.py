"""`ackpt resume URL` (or a staging folder): commit what was staged on this machine and not finished."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from ackpt.checkpoint.staging import StagingFolder, staging_folder
from ackpt.cli.command import Command, with_store
from ackpt.engine.restore import finish_staged
from ackpt.engine.store import Store
from ackpt.errors import StagingError, StagingLockedError, explain
from ackpt.events import Committed, Event, Failed, Progressed
from ackpt.options import written_size


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "place", metavar="URL|STAGING", help="the run's URL, or the folder in which it stages"
    )
    parser.add_argument("--url", help="the run's URL, where it needs options and STAGING is given")
    parser.add_argument("--staging-dir", help="where the run's saver stages, if not in the default place")


def _run(arguments: Namespace) -> int:
    folder = Path(arguments.place)
    if not (folder / "lock").is_file():
        return with_store(arguments.place, partial(_resume_run, staging_dir=arguments.staging_dir))
    url = arguments.url or StagingFolder(folder).target
    if url is None:
        raise StagingError(f"{folder} does not say which run stages there; name its URL with --url")
    return with_store(url, partial(_resume_folder, folder=folder.resolve()))


async def _resume_run(store: Store, *, staging_dir: str | None) -> int:
    return await _resume(store, staging_folder(store.url, staging_dir))


async def _resume_folder(store: Store, *, folder: Path) -> int:
    """Resume what lies in `folder`, wherever it was moved: of that run, for any other would throw it away."""
    noted = StagingFolder(folder).target
    if store.name != noted and (noted or staging_folder(store.url).name != folder.name):
        raise StagingError(
            f"{folder} is where {noted or 'another run'} stages, and not {store.name}; nothing was touched"
        )
    return await _resume(store, folder)


async def _resume(store: Store, folder: Path) -> int:
    progress = _Progress()
    if not await finish_staged(store, folder, subscribers=(progress.tell,)):
        raise StagingLockedError(
            f"another saver, or another `ackpt resume`, is at work in {folder}; it finishes what lies there"
        )
    if not progress.ended:
        print(f"nothing to finish for {store.name}")
    return 1 if any(isinstance(each, Failed) for each in progress.ended) else 0


class _Progress:
    """Print how far each checkpoint has come, at every tenth of the way, and how it ended."""

    def __init__(self) -> None:
        self.ended: list[Event] = []
        self._tenths = 0

    def tell(self, event: Event) -> None:
        match event:
            case Progressed(size=size, sent=sent, connections=connections) if size:
                tenths = 10 * sent // size
                if tenths > self._tenths:
                    done = f"{written_size(sent)} of {written_size(size)}"
                    print(f"step {event.step}: {done}, connections: {connections}", file=sys.stderr)
                self._tenths = tenths
            case Committed(prefix=prefix, target=target):
                self._end(event)
                print(f"{prefix} committed to {target}")
            case Failed(step=step, error=error):
                self._end(event)
                print(f"step {step} failed: {explain(error)}")

    def _end(self, event: Event) -> None:
        self.ended.append(event)
        self._tenths = 0


RESUME = Command(
    name="resume",
    help="commit what was staged on this machine and not finished",
    add_arguments=_add_arguments,
    run=_run,
)
