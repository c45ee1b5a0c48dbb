"""The staging folder of one run: where checkpoints lie between the snapshot and the commit.

It survives the process, is readable by its owner alone, and belongs to one saver at a time.

    <folder>/lock                       held (flock) while a saver uses the folder
    <folder>/target                     the run's URL, without its options
    <folder>/<prefix>[.n]/journal.jsonl what a later process needs
    <folder>/<prefix>[.n]/files/…       the checkpoint's files, named by their keys
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ackpt.checkpoint.fence import Claim
from ackpt.checkpoint.journal import Journal, JournalState, fsync_path, read_journal
from ackpt.errors import StagingError, StagingLockedError, StorageFullError
from ackpt.url import StorageURL

_log = logging.getLogger(__name__)

ROOT_VARIABLE = "ACKPT_STAGING_DIR"


@dataclass(frozen=True, slots=True)
class StagedSave:
    """Name the folder of one save in the staging folder."""

    folder: Path

    @property
    def files(self) -> Path:
        """Return the folder of the checkpoint's files."""
        return self.folder / "files"

    @property
    def journal_path(self) -> Path:
        """Return where the save's journal is."""
        return self.folder / "journal.jsonl"

    def open_journal(self) -> Journal:
        """Open the journal for appending; blocking."""
        return Journal(self.journal_path)

    def read(self) -> JournalState | None:
        """Return what the journal tells, None where it tells nothing; blocking.

        Raises:
            StagingError: it cannot be read just now.
        """
        return read_journal(self.journal_path, self.files)

    def remove(self) -> None:
        """Delete the save's folder, the journal first: what is left of it is never resumed; blocking.

        Idempotent.

        Raises:
            StagingError: it cannot be deleted.
        """
        try:
            if not self.journal_path.is_dir():
                self.journal_path.unlink(missing_ok=True)
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StagingError(
                f"the staged save {self.folder} cannot be removed ({error.strerror}); remove it by hand"
            ) from error


class StagingFolder:
    """Be one run's staging folder; blocking, owned by one saver from `lock` to `unlock`."""

    def __init__(self, folder: Path, *, target: str | None = None) -> None:
        """Name the folder; `target` is noted there for people, and for `ackpt resume`."""
        self.folder = folder
        self._target = target
        self._lock_fd = -1

    @property
    def target(self) -> str | None:
        """Return the URL of the run that stages here, without its options; None where none is noted."""
        try:
            return (self.folder / "target").read_text().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def lock(self) -> None:
        """Make the folder (mode 0700) and take it; the kernel lets go of it when the process dies.

        Raises:
            StagingLockedError: another saver, in this process or another, has it.
            StagingError: it cannot be made or written to.
        """
        if self._lock_fd >= 0:
            return
        self.make()
        try:
            fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StagingError(
                    f"the staging folder {self.folder} cannot be locked ({error.strerror}); "
                    "expected a local file system"
                ) from error
            raise StagingLockedError(
                f"another saver is using the staging folder {self.folder}; a run takes one saver at a time: "
                "close the other one, or give this one a target of its own"
            ) from None
        self._lock_fd = fd
        self.note_target()

        # A fork shares the lock, and would keep it when this process is killed: data loader workers
        # live on for a while. Closing its copy does not let go of ours.
        os.register_at_fork(after_in_child=partial(_unlock, weakref.ref(self)))

    def make(self) -> None:
        """Make the folder (mode 0700); idempotent.

        Raises:
            StagingError: it cannot be made.
        """
        try:
            _make_durably(self.folder)
            self.folder.chmod(0o700)
        except OSError as error:
            raise self._unusable(error) from error

    def unlock(self) -> None:
        """Let go of the folder; idempotent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def new(
        self, *, step: int, prefix: str, metrics: Mapping[str, float], claim: Claim
    ) -> tuple[StagedSave, Journal]:
        """Make an empty folder for one save, with its journal begun.

        A staging folder that somebody has removed, or the lock in it, is made, and taken, again.

        Raises:
            StorageFullError: no room left on its disk.
            StagingLockedError: another saver has taken it meanwhile.
            StagingError: it cannot be written to.
        """
        if self._was_removed():
            _log.warning("the staging folder %s was removed; it is made again", self.folder)
            self._take_again()
        with staging_errors(f"{prefix} cannot be staged", self.folder):
            save = StagedSave(self._make(prefix))
            try:
                save.files.mkdir(mode=0o700)
                journal = save.open_journal()
                try:
                    journal.begin(step=step, prefix=prefix, metrics=metrics, claim=claim)
                except BaseException:
                    journal.close()
                    raise
            except BaseException:
                save.remove()
                raise
        return save, journal

    def saves(self) -> list[StagedSave]:
        """Return the saves that lie in the folder, whoever left them; none in one that took its place.

        Raises:
            StagingError: they cannot be listed.
        """
        if self._was_removed():
            return []
        with staging_errors("what is staged cannot be listed", self.folder):
            return [
                StagedSave(Path(entry.path))
                for entry in os.scandir(self.folder)
                if entry.is_dir(follow_symlinks=False)
            ]

    def is_closed(self) -> bool:
        """Tell whether the folder is another user's, and closed to this one."""
        try:
            os.scandir(self.folder).close()
        except PermissionError:
            return True
        except OSError:
            return False
        return False

    def _take_again(self) -> None:
        """Take the folder that is there now; the old lock is kept until then: the next save knows by it."""
        old, self._lock_fd = self._lock_fd, -1
        try:
            self.lock()
        except BaseException:
            self._lock_fd = old
            raise
        if old >= 0:
            os.close(old)

    def _was_removed(self) -> bool:
        """Tell whether the folder is gone, or the lock in it is not the one that was taken."""
        try:
            there = os.stat(self.folder / "lock")
            return self._lock_fd >= 0 and not os.path.samestat(there, os.fstat(self._lock_fd))
        except FileNotFoundError:
            return self._lock_fd >= 0 or not self.folder.is_dir()
        except OSError:
            return False  # whoever stages there is told what is wrong

    def _unusable(self, error: OSError) -> StagingError:
        return StagingError(
            f"the staging folder {self.folder} cannot be used ({error.strerror}); expected a folder this "
            f"user can write to: set staging_dir or ${ROOT_VARIABLE}"
        )

    def note_target(self) -> None:
        """Note the run's URL in the folder, if it was given and is not there yet.

        Raises:
            StagingError: the folder cannot be written to; it is let go of.
        """
        if self._target is None or self.target == self._target:
            return
        try:
            (self.folder / "target").write_text(f"{self._target}\n")
        except OSError as error:
            self.unlock()
            raise StagingError(
                f"the staging folder {self.folder} cannot be written to ({error.strerror}); make room "
                f"there, or set staging_dir or ${ROOT_VARIABLE} to a folder with enough"
            ) from error

    def _make(self, prefix: str) -> Path:
        number = 0
        while True:
            folder = self.folder / (f"{prefix}.{number}" if number else prefix)
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                number += 1
            else:
                return folder


@contextmanager
def staging_errors(what: str, folder: Path) -> Iterator[None]:
    """Translate what the operating system says when `what` is to be done in `folder`.

    Raises:
        StorageFullError: no room left on its disk.
        StagingError: anything else.
    """
    try:
        yield
    except OSError as error:
        what = f"{what} in {folder} ({error.strerror})"
        elsewhere = f"set staging_dir or ${ROOT_VARIABLE} to a folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(f"{what}; make room there, or {elsewhere} with enough") from error
        raise StagingError(f"{what}; {elsewhere} that this user can write to") from error


def _make_durably(folder: Path) -> None:
    """Make a folder of one user's, so that a loss of power does not take it away with all that is staged."""
    missing = [each for each in folder.parents if not each.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (folder, *missing):
        with suppress(PermissionError):  # one may make a folder in a place that one may not read
            fsync_path(each.parent)


def _unlock(folder: weakref.ref[StagingFolder]) -> None:
    alive = folder()
    if alive is not None:
        alive.unlock()


def staging_folder(target: StorageURL, root: str | os.PathLike[str] | None = None) -> Path:
    """Return where the run at `target` stages: a folder of its own below `root`.

    Without `root`: below `$ACKPT_STAGING_DIR`, or else `$XDG_STATE_HOME/ackpt/staging`
    (https://specifications.freedesktop.org/basedir-spec/latest/), which outlives a reboot.
    """
    if root is None:
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        root = os.environ.get(ROOT_VARIABLE) or os.path.join(state, "ackpt", "staging")
    text = str(target.without_options())
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[-60:]
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Path(os.path.abspath(os.path.expanduser(root))) / f"{readable}-{digest}"
