"""A TensorFlow checkpoint in the V2 format (a "tensor bundle"), staged shard by shard.

Each shard is written as a bundle of its own; its one data file gets its final name at once, so that
the upload can begin while the next shard is being written. `MergeV2Checkpoints` then joins the
bundles: it renames their data files, without touching a byte, and writes one index for all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import SnapshotError


class ShardWriter(Protocol):
    """Write shards of tensors as bundles; on one worker thread."""

    @property
    def shards(self) -> int:
        """Return how many shards there are."""

    def write(self, shard: int, prefix: str) -> None:
        """Write a shard to `<prefix>.index` and `<prefix>.data-00000-of-00001`, and let go of its tensors."""

    def merge(self, prefixes: Sequence[str], prefix: str) -> None:
        """Join the bundles at `prefixes`, in their order, into one at `prefix`."""


def data_name(prefix: str, shard: int, shards: int) -> str:
    """Return the name of a data file.

    https://github.com/tensorflow/tensorflow/blob/v2.15.1/tensorflow/core/util/tensor_bundle/naming.cc
    """
    return f"{prefix}.data-{shard:05d}-of-{shards:05d}"


def index_name(prefix: str) -> str:
    """Return the name of the index file; the source is that of `data_name`."""
    return f"{prefix}.index"


def stage_bundle(writer: ShardWriter, folder: Path, prefix: str, *, step: int) -> Iterator[StagedFile]:
    """Write all shards into `folder`, yielding each data file when it is whole, and the index last.

    What is not part of the checkpoint is removed when the iterator ends, is closed or raises.

    Raises:
        SnapshotError: the folder's file system has no hard links, or the merge did not keep the
            data files as they were.
        OSError, and what `writer` raises.
    """
    scratch = folder / f"{prefix}.scratch"
    scratch.mkdir()
    try:
        pieces = [str(scratch / f"shard-{shard:05d}") for shard in range(writer.shards)]
        staged = []
        for shard, piece in enumerate(pieces):
            writer.write(shard, piece)
            final = folder / data_name(prefix, shard, writer.shards)
            _link(Path(data_name(piece, 0, 1)), final, step)
            staged.append(final)
            yield _staged(final)
        merged = str(scratch / "merged")
        writer.merge(pieces, merged)
        for shard, final in enumerate(staged):
            _check_same(Path(data_name(merged, shard, writer.shards)), final, step)
        index = folder / index_name(prefix)
        os.rename(index_name(merged), index)
        yield _staged(index)
    finally:
        shutil.rmtree(scratch)


def stage_bytes(content: bytes, path: Path) -> StagedFile:
    """Write a small file of the checkpoint.

    Raises:
        OSError.
    """
    path.write_bytes(content)
    return _staged(path)


def _staged(path: Path) -> StagedFile:
    return StagedFile(key=path.name, path=path, size=path.stat().st_size)


def _link(source: Path, target: Path, step: int) -> None:
    try:
        os.link(source, target)
    except PermissionError as error:  # what link(2) says of a file system without hard links
        raise SnapshotError(
            f"step {step} cannot be staged in {target.parent}: its file system has no hard links; "
            "set staging_dir to a folder on one that has",
            step=step,
        ) from error


def _check_same(merged: Path, staged: Path, step: int) -> None:
    if not merged.is_file() or not os.path.samefile(merged, staged):
        raise SnapshotError(
            f"merging the shards of step {step} did not put {staged.name} where its index says; "
            "this version of TensorFlow merges in another way than ackpt knows",
            step=step,
        )
