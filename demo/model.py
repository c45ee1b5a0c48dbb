"""What is trained: a classifier of handwritten digits, with ballast that tells a torn checkpoint.

The digits are scikit-learn's (1,797 images of 8x8 pixels, from the UCI repository's
"Optical Recognition of Handwritten Digits"). The ballast makes a checkpoint large enough for its
journey to take a while: variables whose every element counts the steps, so that a checkpoint in
which they differ from the global step mixes two moments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

tf1 = tf.compat.v1
tpu = tf1.estimator.tpu

BATCH = 64
BALLAST_VARIABLES = 8
BALLAST_ELEMENTS = 1 << 20
_EVALUATION_BATCH = 60


def make_estimator(
    model_dir: Path, *, steps_between_saves: int, hooks: Sequence[tf.compat.v1.train.SessionRunHook] = ()
) -> tf.compat.v1.estimator.tpu.TPUEstimator:
    """Make the estimator; `hooks` take part in training, and are where a saver of ours belongs."""

    def model(features: tf.Tensor, labels: tf.Tensor, mode: str, params: Mapping[str, Any]) -> object:
        return _model(features, labels, mode, hooks)

    config = tpu.RunConfig(
        model_dir=str(model_dir),
        save_checkpoints_steps=steps_between_saves,
        save_summary_steps=None,
        log_step_count_steps=None,
        tf_random_seed=1,
    )
    return tpu.TPUEstimator(
        model_fn=model,
        config=config,
        use_tpu=False,
        train_batch_size=BATCH,
        eval_batch_size=_EVALUATION_BATCH,
    )


def training_data() -> Callable[[Mapping[str, Any]], tf.data.Dataset]:
    """Return the input function for training: four fifths of the digits, over and over."""
    features, _, labels, _ = _digits()

    def read(params: Mapping[str, Any]) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices((features, labels))
        return data.shuffle(len(labels), seed=1).repeat().batch(params["batch_size"], drop_remainder=True)

    return read


def evaluation_data() -> tuple[Callable[[Mapping[str, Any]], tf.data.Dataset], int]:
    """Return the input function for evaluation, the other fifth, and its number of batches."""
    _, features, _, labels = _digits()

    def read(params: Mapping[str, Any]) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices((features, labels))
        return data.batch(params["batch_size"], drop_remainder=True)

    return read, len(labels) // _EVALUATION_BATCH


def torn_variables(prefix: str) -> list[str]:
    """Return the ballast variables of a checkpoint that hold anything but its global step."""
    reader = tf.train.load_checkpoint(prefix)
    step = reader.get_tensor("global_step")
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("ballast")]
    assert len(names) == BALLAST_VARIABLES, f"expected {BALLAST_VARIABLES} ballast variables, found {names}"
    return [name for name in sorted(names) if not (reader.get_tensor(name) == step).all()]


def _digits() -> tuple[npt.NDArray[np.generic], ...]:
    digits = load_digits()
    images = (digits.data / 16.0).astype(np.float32)
    parts = train_test_split(images, digits.target.astype(np.int32), test_size=0.2, random_state=1)
    return tuple(parts)


def _model(
    features: tf.Tensor, labels: tf.Tensor, mode: str, hooks: Sequence[tf.compat.v1.train.SessionRunHook]
) -> object:
    hidden = tf1.nn.relu(_layer(features, "hidden", 64, 128))
    logits = _layer(hidden, "logits", 128, 10)
    loss = tf1.losses.sparse_softmax_cross_entropy(labels, logits)
    ballast = [
        tf1.get_variable(
            f"ballast_{i}", [BALLAST_ELEMENTS], initializer=tf1.zeros_initializer(), trainable=False
        )
        for i in range(BALLAST_VARIABLES)
    ]
    if mode == tf.estimator.ModeKeys.EVAL:
        return tpu.TPUEstimatorSpec(mode, loss=loss, eval_metrics=(_metrics, [labels, logits]))
    step = tf1.train.get_or_create_global_step()
    optimise = tf1.train.AdamOptimizer(0.01).minimize(loss, global_step=step)
    count = [each.assign_add(tf.ones_like(each)) for each in ballast]
    return tpu.TPUEstimatorSpec(
        mode, loss=loss, train_op=tf.group(optimise, *count), training_hooks=list(hooks)
    )


def _layer(inputs: tf.Tensor, name: str, size: int, units: int) -> tf.Tensor:
    with tf1.variable_scope(name):
        weights = tf1.get_variable("weights", [size, units])
        return inputs @ weights + tf1.get_variable("bias", [units], initializer=tf1.zeros_initializer())


def _metrics(labels: tf.Tensor, logits: tf.Tensor) -> dict[str, object]:
    return {"accuracy": tf1.metrics.accuracy(labels, tf.argmax(logits, axis=-1))}
