"""What is promised whenever a process dies: to readers at every moment, and to whoever trains at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ackpt.checkpoint import fence, state_file
from ackpt.checkpoint.manifest import SUFFIX, Manifest
from ackpt.checkpoint.state_file import StateFile

_SHARD = re.compile(r"(.+)\.data-[0-9]{5}-of-([0-9]{5})")


class BrokenPromise(AssertionError):
    """Report a promise that does not hold."""


class Promises:
    """Compare a store with what was saved there; `objects` are the store's own, by key.

    `content` makes the files of the checkpoint of a step, by what follows the prefix and a dot.
    """

    def __init__(
        self, objects: Callable[[], Mapping[str, bytes]], content: Callable[[int], Mapping[str, bytes]]
    ) -> None:
        self._objects = objects
        self._content = content

    def committed(self) -> dict[int, Manifest]:
        """Return the committed checkpoints as the store has them, by step."""
        objects = self._objects()
        manifests = [Manifest.from_json(objects[k], key=k) for k in sorted(objects) if k.endswith(SUFFIX)]
        return {each.step: each for each in manifests}

    @property
    def newest(self) -> int:
        """Return the newest committed step, 0 where there is none."""
        return max(self.committed(), default=0)

    def check_readers(self) -> None:
        """Make sure that every reader sees whole checkpoints only.

        One who reads manifests, one who reads TensorFlow's state file, and one who looks for an index.
        """
        objects = self._objects()
        committed = self.committed()
        for step, manifest in committed.items():
            wanted = {f"{manifest.prefix}.{name}": data for name, data in self._content(step).items()}
            if {each.key for each in manifest.objects} != set(wanted):
                raise BrokenPromise(f"the manifest of step {step} does not name its files")
            for key, data in wanted.items():
                if key not in objects:
                    raise BrokenPromise(f"{key} is missing in a committed checkpoint")
                if objects[key] != data:
                    raise BrokenPromise(f"{key} has other bytes in a committed checkpoint")
        prefixes = {each.prefix for each in committed.values()}
        if state_file.KEY in objects:
            state = StateFile.from_text(objects[state_file.KEY])
            named = set() if state is None else {state.latest, *state.all}
            if not named or not named <= prefixes:
                raise BrokenPromise(f"the state file names {sorted(named)}, committed are {sorted(prefixes)}")
        for key in objects:
            if key.endswith(".index"):
                self._check_index(key.removesuffix(".index"), objects)

    def _check_index(self, prefix: str, objects: Mapping[str, bytes]) -> None:
        for name, data in self._content(int(prefix.rpartition("-")[2])).items():
            if name.startswith("data") and objects.get(f"{prefix}.{name}") != data:
                raise BrokenPromise(f"{prefix}.index is there, and {prefix}.{name} is not")

    def check_state(self) -> None:
        """Make sure that TensorFlow's state file points at the newest committed checkpoint."""
        text = self._objects().get(state_file.KEY)
        state = None if text is None else StateFile.from_text(text)
        if (state.step if state is not None else None) != (self.newest or None):
            raise BrokenPromise(f"the state file is {text!r}, and step {self.newest} is the newest")

    def check_swept(self, uploads: int) -> None:
        """Make sure that nothing is left but what is committed, with `uploads` open ones after the sweep."""
        ours = {state_file.KEY, fence.KEY}
        for manifest in self.committed().values():
            ours |= {manifest.key, *(each.key for each in manifest.objects)}
        left = set(self._objects()) - ours
        if left or uploads:
            raise BrokenPromise(f"left after the sweep: {sorted(left)} and {uploads} open uploads")


def check_staging(folder: Path) -> None:
    """Make sure that nothing is left of saves that have ended."""
    left = {each.name for each in folder.iterdir()} - {"lock", "target"}
    if left:
        raise BrokenPromise(f"left in the staging folder: {sorted(left)}")
