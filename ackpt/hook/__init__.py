"""The TensorFlow front end: a session hook with the name and the ways of TensorFlow's own."""

from ackpt.hook.saver_hook import AsyncCheckpointSaverHook

__all__ = ["AsyncCheckpointSaverHook"]
