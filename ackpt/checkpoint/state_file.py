"""TensorFlow's `checkpoint` state file: the few lines by which a reader finds the newest checkpoint.

It is a `CheckpointState` in protocol-buffer text format
(tensorflow/python/training/checkpoint_state.proto; https://protobuf.dev/reference/protobuf/textformat-spec/),
written here without TensorFlow. Paths in it are relative, so that the folder can move.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

KEY = "checkpoint"

_LINE = re.compile(rb'^[ \t]*(\w+)[ \t]*:[ \t]*"((?:[^"\\]|\\.)*)"[ \t\r]*$', re.MULTILINE)
"""No `\\s`, which would look through all the empty lines of a damaged file from each of them."""

_STEP = re.compile(r"-([0-9]{1,18})\Z")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_SIMPLE = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True, slots=True)
class StateFile:
    """Hold the newest checkpoint's path, and all paths that are kept, oldest first."""

    latest: str
    all: tuple[str, ...] = ()

    @property
    def step(self) -> int | None:
        """Return the step at the end of the newest path, None where there is none."""
        match = _STEP.search(self.latest)
        return int(match.group(1)) if match else None

    def to_text(self) -> bytes:
        """Write the file's content."""
        lines = [f'model_checkpoint_path: "{_quote(self.latest)}"']
        lines += [f'all_model_checkpoint_paths: "{_quote(path)}"' for path in self.all]
        return ("\n".join(lines) + "\n").encode(errors="surrogateescape")

    @classmethod
    def from_text(cls, data: bytes) -> StateFile | None:
        """Read the file's content; None where it names no checkpoint."""
        latest, paths = None, []
        for name, quoted in _LINE.findall(data):
            path = _ESCAPE.sub(_unescape, quoted).decode(errors="surrogateescape")
            if name == b"model_checkpoint_path":
                latest = path
            elif name == b"all_model_checkpoint_paths":
                paths.append(path)
        return cls(latest, tuple(paths)) if latest else None


def next_state(current: StateFile | None, prefix: str, kept: Sequence[str]) -> StateFile | None:
    """Decide what the state file becomes when `prefix` has been committed; None: leave it as it is.

    `kept` are the prefixes that retention keeps, oldest first. The state never moves to a lower
    step: a trainer that was thought dead cannot move it back.
    """
    wanted = StateFile(prefix, tuple(kept))
    if current == wanted:
        return None
    if current is not None and current.step is not None and current.step > (wanted.step or 0):
        return None
    return wanted


def _quote(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match.group(1)
    if code[:1] == b"x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    if code[:1] in b"01234567":
        return bytes([int(code, 8) & 0xFF])
    return _SIMPLE.get(code, code)
