"""Models whose checkpoints tell by themselves whether they are torn: after n steps every element is n."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Describe the variables of a model: how many, of how many float32 elements, of which kind."""

    variables: int
    elements: int
    resource: bool = True
    partitions: int = 1
    devices: int = 1

    @property
    def size(self) -> int:
        """Return the bytes of one checkpoint."""
        return self.variables * self.elements * 4


MIXES = {
    "400 x 10k resource": Mix(variables=400, elements=10_000),
    "40 x 200k ref": Mix(variables=40, elements=200_000, resource=False),
    "8 x 4M resource": Mix(variables=8, elements=4_000_000),
    "8 x 4M ref": Mix(variables=8, elements=4_000_000, resource=False),
    "40 x 200k resource in 4 partitions": Mix(variables=40, elements=200_000, partitions=4),
    "40 x 200k ref in 4 partitions": Mix(variables=40, elements=200_000, partitions=4, resource=False),
    "40 x 200k resource on 2 devices": Mix(variables=40, elements=200_000, devices=2),
    "40 x 200k ref on 2 devices": Mix(variables=40, elements=200_000, devices=2, resource=False),
}


def build(mix: Mix) -> tf.Operation:
    """Build the model in the default graph, and return the op that adds one to everything."""
    partitioner = tf1.fixed_size_partitioner(mix.partitions) if mix.partitions > 1 else None
    step = tf1.train.get_or_create_global_step()
    updates = [tf1.assign_add(step, 1).op]
    for number in range(mix.variables):
        with tf1.device(f"/cpu:{number % mix.devices}" if mix.devices > 1 else None):
            variable = tf1.get_variable(
                f"v{number}",
                shape=[mix.elements],
                initializer=tf1.zeros_initializer(),
                use_resource=mix.resource,
                partitioner=partitioner,
            )
            for piece in variable if mix.partitions > 1 else [variable]:
                updates.append(tf1.assign_add(piece, tf.ones(piece.shape)).op)
    return tf.group(*updates)


def session_config(mix: Mix) -> tf1.ConfigProto:
    """Return the configuration of a session for `mix`."""
    return tf1.ConfigProto(device_count={"CPU": mix.devices})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Say which steps the elements of one checkpoint come from; `named` is the step in its name."""

    named: int
    lowest: int
    highest: int

    @property
    def whole(self) -> bool:
        """Tell whether every element is of the step that the checkpoint claims to be of."""
        return self.lowest == self.highest == self.named

    @property
    def skew(self) -> int:
        """Return how many steps lie between the oldest and the newest element."""
        return max(self.highest, self.named) - min(self.lowest, self.named)


def read_back(prefix: str) -> Reading:
    """Read every element of the checkpoint `…-<step>`."""
    reader = tf.train.load_checkpoint(prefix)
    values = [np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()]
    return Reading(
        named=int(prefix.rpartition("-")[2]),
        lowest=int(min(value.min() for value in values)),
        highest=int(max(value.max() for value in values)),
    )
