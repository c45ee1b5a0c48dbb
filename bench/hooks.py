"""The hooks that are compared, made alike: none, TensorFlow's synchronous and asynchronous one, ours."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

import ackpt
from ackpt.engine.overlap import Overlap
from ackpt.events import Committed

tf1 = tf.compat.v1

NAMES = ("none", "tf sync", "tf async", "ackpt")

OnSaved = Callable[[str], None]
"""Called with the path of a checkpoint once its hook says that it is written."""


class _Saved(tf1.train.CheckpointSaverListener):
    def __init__(self, folder: Path, on_saved: OnSaved) -> None:
        self._folder = folder
        self._on_saved = on_saved

    def after_save(self, session: tf1.Session, global_step_value: int) -> None:
        self._on_saved(str(self._folder / f"model.ckpt-{global_step_value}"))


class _Committed(ackpt.CheckpointListener):
    timeout_secs = None

    def __init__(self, folder: Path, on_saved: OnSaved) -> None:
        self._folder = folder
        self._on_saved = on_saved

    async def on_committed(self, event: Committed) -> None:
        self._on_saved(str(self._folder / event.prefix))


def available() -> tuple[str, ...]:
    """Return the hooks that this TensorFlow has."""
    return NAMES if _tensorflow_async() is not None else tuple(n for n in NAMES if n != "tf async")


def make(
    name: str,
    folder: Path,
    *,
    save_steps: int,
    on_saved: OnSaved,
    saver: tf1.train.Saver,
    staging: Path,
    overlap: Overlap,
) -> Sequence[tf1.train.SessionRunHook]:
    """Make the hook called `name` (none: no hook), saving to `folder` every `save_steps` steps.

    `staging` and `overlap` are for ours; the others have no such choice.
    """
    if name == "none":
        return []
    if name == "ackpt":
        listeners = [_Committed(folder, on_saved)]
        return [
            ackpt.AsyncCheckpointSaverHook(
                str(folder),
                save_steps=save_steps,
                saver=saver,
                listeners=listeners,
                overlap=overlap,
                staging_dir=staging,
            )
        ]
    kind = tf1.train.CheckpointSaverHook if name == "tf sync" else _tensorflow_async()
    assert kind is not None
    return [kind(str(folder), save_steps=save_steps, saver=saver, listeners=[_Saved(folder, on_saved)])]


def _tensorflow_async() -> type[tf1.train.CheckpointSaverHook] | None:
    try:
        from tensorflow.python.tpu.async_checkpoint import AsyncCheckpointSaverHook
    except ImportError:
        print("this TensorFlow has no asynchronous hook of its own; it is left out", file=sys.stderr)
        return None
    kind: type[tf1.train.CheckpointSaverHook] = AsyncCheckpointSaverHook
    return kind
