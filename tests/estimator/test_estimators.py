"""The hook in estimators: where it has to be given, and what an estimator asks of its saver hook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

import ackpt
from bench.mixes import read_back
from tests.hook.training import Recorder, assert_whole, steps_in

tf1 = tf.compat.v1
Hook = ackpt.AsyncCheckpointSaverHook


def _model(hook: Callable[[], Hook] | None, *, tpu: bool = False) -> Callable[..., object]:
    """Make a model function whose variables are all equal to the step; its hook is made in every mode."""

    def model_fn(
        features: tf.Tensor, labels: tf.Tensor, mode: str, params: dict[str, object] | None = None
    ) -> object:
        weights = tf1.get_variable("weights", shape=[1000], initializer=tf1.zeros_initializer())
        loss = tf.reduce_mean(weights) + 0.0 * tf.reduce_mean(features)
        step = tf1.train.get_or_create_global_step()
        train_op = tf.group(tf1.assign_add(weights, tf.ones([1000])), tf1.assign_add(step, 1))
        hooks = [hook()] if hook is not None else []
        if tpu:
            return tf1.estimator.tpu.TPUEstimatorSpec(
                mode, loss=loss, train_op=train_op, training_hooks=hooks
            )
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, training_hooks=hooks)

    return model_fn


def _input(params: dict[str, object] | None = None) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors((tf.ones([8]), tf.ones([8]))).repeat(50)


def _tpu_estimator(folder: Path, hook: Callable[[], Hook] | None, iterations: int = 1) -> object:
    return tf1.estimator.tpu.TPUEstimator(
        _model(hook, tpu=True),
        model_dir=str(folder),
        use_tpu=False,
        train_batch_size=8,
        eval_batch_size=8,
        config=tf1.estimator.tpu.RunConfig(
            save_checkpoints_steps=2,
            tpu_config=tf1.estimator.tpu.TPUConfig(iterations_per_loop=iterations),
        ),
    )


def _estimator(folder: Path, hook: Callable[[], Hook] | None) -> object:
    config = tf.estimator.RunConfig(save_checkpoints_steps=2)
    return tf.estimator.Estimator(_model(hook), model_dir=str(folder), config=config)


def _steps(folder: Path) -> list[int]:
    """Return the committed steps: files without a manifest are those of another saver hook."""
    suffix = ".manifest.json"
    return sorted(int(p.name.removesuffix(suffix).rpartition("-")[2]) for p in folder.glob(f"*{suffix}"))


@pytest.mark.parametrize("iterations", [1, 4])
@pytest.mark.parametrize("same_folder", [True, False])
def test_a_tpu_estimator_takes_the_hook_in_its_spec(
    same_folder: bool, iterations: int, tmp_path: Path
) -> None:
    model_dir = tmp_path / "model"
    run = model_dir if same_folder else tmp_path / "run"
    options = {"retention": ackpt.KeepAll(), "overlap": ackpt.Queue(9)}
    estimator = _tpu_estimator(model_dir, lambda: Hook(run, save_steps=4, **options), iterations)
    estimator.train(_input, max_steps=10)
    assert _steps(run) == steps_in(run) == [0, 4, 8, 10]
    assert_whole(run)
    if not same_folder:
        assert not list(model_dir.glob("*.index"))  # the estimator left out a saver hook of its own


def test_a_tpu_estimator_without_a_tpu_takes_the_hook_in_train(tmp_path: Path) -> None:
    # with a TPU it leaves out its own saver hook only for one that comes in the spec
    estimator = _tpu_estimator(tmp_path / "model", None)
    estimator.train(_input, hooks=[Hook(tmp_path / "run", save_steps=4)], max_steps=6)
    assert _steps(tmp_path / "run")[-1] == 6
    assert not list((tmp_path / "model").glob("*.index"))


@pytest.mark.parametrize("where", ["spec", "train"])
def test_an_estimator_takes_the_hook_in_its_spec_and_in_train(where: str, tmp_path: Path) -> None:
    def make() -> Hook:
        return Hook(tmp_path / "run", save_steps=4, overlap=ackpt.Queue(9))

    estimator = _estimator(tmp_path / "model", make if where == "spec" else None)
    estimator.train(_input, hooks=[make()] if where == "train" else [], max_steps=6)
    assert _steps(tmp_path / "run") == [0, 4, 6]
    assert not list((tmp_path / "model").glob("*.index"))


def test_saving_listeners_that_an_estimator_appends_are_called(tmp_path: Path) -> None:
    listener = Recorder()
    estimator = _estimator(tmp_path, None)
    hook = Hook(tmp_path, save_steps=4, overlap=ackpt.Block())
    estimator.train(_input, hooks=[hook], max_steps=6, saving_listeners=[listener])
    assert [call for call in listener.calls if call[0] != "after_save"] == [
        ("begin", None),
        ("before_save", 0),
        ("before_save", 4),
        ("before_save", 6),
        ("end", 6),
    ]
    assert ("after_save", 4) in listener.calls
    assert ("after_save", 6) in listener.calls


def test_a_hook_that_is_made_in_every_mode_serves_training_again_and_again(tmp_path: Path) -> None:
    estimator = _tpu_estimator(tmp_path, lambda: Hook(tmp_path, save_steps=4))
    for until in (5, 9):
        estimator.train(_input, max_steps=until)
        assert estimator.evaluate(_input, steps=1)["global_step"] == until
    assert _steps(tmp_path)[-1] == 9
    assert_whole(tmp_path)


def test_train_and_evaluate_evaluates_what_is_committed(tmp_path: Path) -> None:
    estimator = _estimator(tmp_path, lambda: Hook(tmp_path, save_steps=5))
    metrics, _ = tf.estimator.train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(_input, max_steps=12),
        tf.estimator.EvalSpec(_input, steps=1, throttle_secs=0),
    )
    assert metrics["global_step"] == 12
    assert metrics["loss"] == 12
    assert read_back(str(tmp_path / "model.ckpt-12")).whole


def test_the_default_saver_of_an_estimator_sets_the_retention(tmp_path: Path) -> None:
    config = tf.estimator.RunConfig(keep_checkpoint_max=2)
    hook = Hook(tmp_path / "run", save_steps=1, overlap=ackpt.Queue(9))
    estimator = tf.estimator.Estimator(_model(None), model_dir=str(tmp_path / "model"), config=config)
    estimator.train(_input, hooks=[hook], max_steps=6)
    assert _steps(tmp_path / "run") == [5, 6]
