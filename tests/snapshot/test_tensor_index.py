"""The index of a checkpoint, as TensorFlow writes it: the tensors count, not the shards."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ackpt.checkpoint.tensor_index import same_tensors

tf1 = tf.compat.v1

Arrays = dict[str, np.ndarray]


def index(folder: Path, arrays: Arrays, *, shards: int = 1) -> bytes:
    """Write arrays with TensorFlow, in so many data files, and return the index."""
    folder.mkdir()
    names = sorted(arrays)
    pieces = []
    for shard in range(shards):
        mine = names[shard::shards]
        pieces.append(str(folder / f"piece-{shard}"))
        tf.raw_ops.SaveV2(
            prefix=pieces[-1],
            tensor_names=mine,
            shape_and_slices=[""] * len(mine),
            tensors=[arrays[name] for name in mine],
        )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=pieces, destination_prefix=str(folder / "whole"))
    return (folder / "whole.index").read_bytes()


def content(count: int = 2000) -> Arrays:
    random_state = np.random.default_rng(1)
    arrays: Arrays = {f"layer/{n:05}/kernel": random_state.random((3, n % 7)) for n in range(count)}
    arrays["text"] = np.array([b"a", b"bc"])
    arrays["step"] = np.int64(7)
    arrays["nothing"] = np.zeros((0, 4), np.float32)
    return arrays


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return index(tmp_path_factory.mktemp("index") / "whole", content())


@pytest.mark.parametrize("shards", [1, 3])
def test_the_same_tensors_in_other_shards_are_the_same(whole: bytes, shards: int, tmp_path: Path) -> None:
    other = index(tmp_path / "other", content(), shards=shards)
    assert (other == whole) is (shards == 1)
    assert same_tensors(whole, other)


@pytest.mark.parametrize("change", ["value", "type", "shape", "name", "more", "less"])
def test_any_other_tensor_is_told(whole: bytes, change: str, tmp_path: Path) -> None:
    arrays = content()
    name = "layer/01234/kernel"
    old = arrays[name]
    if change == "value":
        arrays[name] = old + np.eye(*old.shape)
    elif change == "type":
        arrays[name] = old.view(np.int64)
    elif change == "shape":
        arrays[name] = old.reshape(-1)
    elif change == "more":
        arrays["more"] = np.int64(0)
    else:
        del arrays[name]
        if change == "name":
            arrays["layer/01234/kernel2"] = old
    assert not same_tensors(whole, index(tmp_path / "other", arrays))


def test_slices_of_a_partitioned_variable_count(tmp_path: Path) -> None:
    def write(folder: str, parts: int, value: float) -> bytes:
        with tf.Graph().as_default(), tf1.Session() as session:
            tf1.get_variable(
                "table",
                [10, 4],
                partitioner=tf1.fixed_size_partitioner(parts),
                initializer=tf1.constant_initializer(value),
            )
            session.run(tf1.global_variables_initializer())
            prefix = tf1.train.Saver().save(session, str(tmp_path / folder / "x"), write_meta_graph=False)
        return Path(f"{prefix}.index").read_bytes()

    assert same_tensors(write("a", 2, 1.0), write("b", 2, 1.0))
    assert not same_tensors(write("c", 2, 1.0), write("d", 2, 2.0))


def test_what_is_no_index_is_a_value_error_and_never_anything_else(whole: bytes) -> None:
    chance = random.Random(3)
    with pytest.raises(ValueError, match="magic number"):
        same_tensors(b"", whole)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 30)):
            damaged[chance.randrange(len(whole))] = chance.randrange(256)
        cut = bytes(damaged[chance.randrange(len(whole) - 100) :])
        for rubbish in (bytes(damaged), cut):
            try:
                same_tensors(whole, rubbish)
            except ValueError:
                continue
