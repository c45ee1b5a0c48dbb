"""What is read from a saver's graph, and which savers cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tensorflow as tf
from tensorflow.python.training.saver import BaseSaverBuilder

from ackpt.snapshot.saver_graph import UnreadableSaverError, read_saver
from bench.mixes import Mix, build
from tests.snapshot.training import tf1


class _Saveable(BaseSaverBuilder.SaveableObject):  # type: ignore[misc]
    @staticmethod
    def spec(name: str, tensor: tf.Tensor) -> object:
        return BaseSaverBuilder.SaveSpec(tensor, "", name, dtype=tensor.dtype.base_dtype)

    def restore(self, restored_tensors: object, restored_shapes: object) -> object:
        return tf.no_op()


@pytest.fixture
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


def test_every_variable_is_read_under_its_name_with_its_size(graph: tf.Graph) -> None:
    build(Mix(variables=2, elements=10))
    read = {each.name: each for each in read_saver(graph, tf1.train.Saver())}
    assert sorted(read) == ["global_step", "v0", "v1"]
    assert read["v0"].size == 40
    assert read["v0"].dtype == tf.float32


def test_the_names_that_a_saver_was_given_are_kept(graph: tf.Graph) -> None:
    variable = tf1.get_variable("v", shape=[3])
    assert [each.name for each in read_saver(graph, tf1.train.Saver({"other/name": variable}))] == [
        "other/name"
    ]


def test_slices_of_a_partitioned_variable_keep_their_places(graph: tf.Graph) -> None:
    tf1.get_variable("v", shape=[10, 2], partitioner=tf1.fixed_size_partitioner(2))
    read = read_saver(graph, tf1.train.Saver())
    assert [(each.name, each.slice_spec) for each in read] == [
        ("v", "10 2 0,5:0,2"),
        ("v", "10 2 5,5:0,2"),
    ]


def test_a_sharded_saver_is_read_with_the_device_of_each_tensor(graph: tf.Graph) -> None:
    build(Mix(variables=2, elements=10, devices=2))
    read = {each.name: each.device for each in read_saver(graph, tf1.train.Saver(sharded=True))}
    assert read["v0"].endswith("CPU:0")
    assert read["v1"].endswith("CPU:0")  # the saver itself reads every device's memory from CPU 0


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("resource", [True, False])
def test_only_resource_variables_are_taken_as_copy_on_write(
    graph: tf.Graph, resource: bool, partitions: int
) -> None:
    build(Mix(variables=3, elements=10, resource=resource, partitions=partitions))
    variables = [each for each in read_saver(graph, tf1.train.Saver()) if each.name != "global_step"]
    assert len(variables) == 3 * partitions
    assert {each.copy_on_write for each in variables} == {resource}


def test_what_shares_the_memory_of_a_reference_is_not_copy_on_write(graph: tf.Graph) -> None:
    variable = tf1.get_variable("v", shape=[3], use_resource=False)
    through = tf.identity(tf.identity(variable._ref()))
    saver = tf1.train.Saver([_Saveable(through, [_Saveable.spec("x", through)], "x")])
    assert [each.copy_on_write for each in read_saver(graph, saver)] == [False]


@pytest.mark.parametrize("where", ["around", "behind"])
def test_a_saver_that_changes_state_on_the_way_cannot_be_read(graph: tf.Graph, where: str) -> None:
    variable = tf1.get_variable("v", shape=[], initializer=tf1.zeros_initializer())
    count = tf1.assign_add(variable, 1.0).op
    with tf.control_dependencies([count] if where == "around" else []):
        saver = tf1.train.Saver([variable])
    if where == "behind":
        with tf.control_dependencies([count]):
            last = tf.identity(graph.get_tensor_by_name(saver.saver_def.save_tensor_name))
        saver.saver_def.save_tensor_name = last.name
    with pytest.raises(UnreadableSaverError, match="AssignAdd"):
        read_saver(graph, saver)


def test_a_saver_that_only_waits_for_something_harmless_can_be_read(graph: tf.Graph) -> None:
    variable = tf1.get_variable("v", shape=[3])
    with tf.control_dependencies([tf.no_op()]):
        saver = tf1.train.Saver([variable])
    assert [each.name for each in read_saver(graph, saver)] == ["v"]


class _OwnSave(tf1.train.Saver):  # type: ignore[misc]
    def save(self, *args: object, **kwargs: object) -> object:
        return super().save(*args, **kwargs)


def test_a_saver_with_a_save_of_its_own_cannot_be_read(graph: tf.Graph) -> None:
    variable = tf1.get_variable("v", shape=[3])
    with pytest.raises(UnreadableSaverError, match=r"_OwnSave has a save\(\) of its own"):
        read_saver(graph, _OwnSave([variable]))


def test_a_save_put_on_the_instance_counts_as_its_own(graph: tf.Graph) -> None:
    saver = tf1.train.Saver([tf1.get_variable("v", shape=[3])])
    saver.save = lambda *args, **kwargs: None
    with pytest.raises(UnreadableSaverError, match="of its own"):
        read_saver(graph, saver)


def test_the_v1_format_cannot_be_read(graph: tf.Graph) -> None:
    saver = tf1.train.Saver([tf1.get_variable("v", shape=[3])], write_version=tf1.train.SaverDef.V1)
    with pytest.raises(UnreadableSaverError, match="SaveSlices|Save"):
        read_saver(graph, saver)


def test_a_saver_without_variables_cannot_be_read(graph: tf.Graph) -> None:
    with pytest.raises(UnreadableSaverError, match="nothing to save"):
        read_saver(graph, tf1.train.Saver(allow_empty=True))
