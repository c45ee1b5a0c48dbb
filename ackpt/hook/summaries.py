"""Graph and session log of a run, where TensorFlow's hook writes them, never blocking on a remote store.

For a run in a local folder that is TensorFlow's own writer for that folder. For any other the event
file is written to a private local folder, and put into the store behind each commit.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf
from google.protobuf import text_format

from ackpt.engine.background import BackgroundCheckpointer
from ackpt.engine.listeners import CheckpointListener
from ackpt.events import Committed
from ackpt.snapshot.meta_graph import GraphDescription
from ackpt.url import StorageURL

_log = logging.getLogger(__name__)


class Summaries(CheckpointListener):
    """Write a run's graph once and a line for every commit.

    `open` and `add_graph` belong on the trainer thread, with the graph as the default one.
    """

    def __init__(self, url: StorageURL, *, name: str) -> None:
        """Take note of the run's place and of its checkpoints' name; no I/O."""
        self._url = url
        self._save_path = f"{url.path if url.scheme == 'file' else url}/{name}"
        self._private: Path | None = None
        self._writer: tf.compat.v1.summary.FileWriter | None = None
        self._checkpointer: BackgroundCheckpointer | None = None

    def open(self, checkpointer: BackgroundCheckpointer) -> None:
        """Open the event file; `checkpointer` is what puts files into the store."""
        self._checkpointer = checkpointer
        if self._url.scheme == "file":
            self._writer = tf.compat.v1.summary.FileWriterCache.get(self._url.path)
        else:
            self._private = Path(tempfile.mkdtemp(prefix="ackpt-events-"))
            self._writer = tf.compat.v1.summary.FileWriter(str(self._private))

    def add_graph(self, graph: tf.Graph, description: GraphDescription, *, write_file: bool) -> None:
        """Add the graph and its description, and write `graph.pbtxt` (on a worker) with `write_file`."""
        if self._writer is not None:
            self._writer.add_graph(graph)
            self._writer.add_meta_graph(description.meta_graph)
        if write_file and self._checkpointer is not None:
            self._checkpointer.start_task(self._write_graph(self._checkpointer, description))

    async def on_committed(self, event: Committed) -> None:
        """Add the line that tells TensorBoard of a checkpoint, and put the event file into the store."""
        if self._writer is None or self._checkpointer is None:
            return
        log = tf.compat.v1.SessionLog(
            status=tf.compat.v1.SessionLog.CHECKPOINT, checkpoint_path=self._save_path
        )
        await asyncio.to_thread(self._add, log, event.step)
        if self._private is not None:
            for path in sorted(self._private.iterdir()):
                await asyncio.wrap_future(self._checkpointer.upload_file(path, path.name))

    def close(self) -> None:
        """Remove the private folder; a local run's event file stays open, it is TensorFlow's."""
        writer, self._writer = self._writer, None
        private, self._private = self._private, None
        if private is not None and writer is not None:
            try:
                writer.close()
            except tf.errors.OpError as error:
                _log.warning("the event file of %s could not be closed: %s", self._url, error)
            shutil.rmtree(private, ignore_errors=True)  # somebody may have cleared the temporary folder

    def _add(self, log: tf.compat.v1.SessionLog, step: int) -> None:
        if self._writer is not None:
            self._writer.add_session_log(log, step)
            self._writer.flush()

    async def _write_graph(self, checkpointer: BackgroundCheckpointer, description: GraphDescription) -> None:
        with tempfile.TemporaryDirectory(prefix="ackpt-graph-") as folder:
            path = Path(folder) / "graph.pbtxt"
            await asyncio.to_thread(_write_text, path, description.graph_def)
            await asyncio.wrap_future(checkpointer.upload_file(path, path.name))


def _write_text(path: Path, graph_def: tf.compat.v1.GraphDef) -> None:
    path.write_text(text_format.MessageToString(graph_def), encoding="utf-8")
