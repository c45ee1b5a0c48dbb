"""TensorFlow's state file, written and read without TensorFlow: both sides agree, and it never goes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ackpt.checkpoint.state_file import StateFile, next_state
from tests.checkpoint.manifests import names

tf = pytest.importorskip("tensorflow")

ODD = [
    "model.ckpt-5",
    "with space-5",
    'quo"te-5',
    "apo'strophe-5",
    "back\\slash-5",
    "tab\there-5",
    "new\nline-5",
    "cr\rhere-5",
    "naïve-雪-🦀-5",
    'colon: "x"-5',
    "#hash-5",
    "{brace}-5",
    "\x01\x7f-5",
    "\\n-5",
    "\\303-5",
    "percent%20-5",
]


@pytest.mark.parametrize("path", ODD)
def test_tensorflow_reads_what_we_write(tmp_path: Path, path: str) -> None:
    ours = StateFile(path, ("older-1", path))
    (tmp_path / "checkpoint").write_bytes(ours.to_text())
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert state is not None
    assert state.model_checkpoint_path == str(tmp_path / path)
    assert list(state.all_model_checkpoint_paths) == [str(tmp_path / "older-1"), str(tmp_path / path)]


@pytest.mark.parametrize("path", ODD)
def test_we_read_what_tensorflow_writes(tmp_path: Path, path: str) -> None:
    tf.compat.v1.train.update_checkpoint_state(str(tmp_path), path, ["older-1"])
    state = StateFile.from_text((tmp_path / "checkpoint").read_bytes())
    assert state == StateFile(path, ("older-1", path))


def test_we_read_absolute_paths_and_timestamps_of_tensorflow(tmp_path: Path) -> None:
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(x=tf.Variable(1.0)), str(tmp_path), 3)
    for step in (1, 2):
        manager.save(step)
    state = StateFile.from_text((tmp_path / "checkpoint").read_bytes())
    assert state is not None
    assert state.latest == "ckpt-2"
    assert state.all == ("ckpt-1", "ckpt-2")
    assert state.step == 2


file_names = st.binary().map(lambda name: name.decode(errors="surrogateescape"))


@given(st.text(min_size=1) | file_names.filter(bool), st.lists(file_names, max_size=3))
def test_a_state_file_reads_back_as_it_was_written(latest: str, paths: list[str]) -> None:
    ours = StateFile(latest, tuple(paths))
    assert StateFile.from_text(ours.to_text()) == ours


@given(st.binary(max_size=200))
@example(b"\\8")
@example(b"\\x")
@example(b"\\777")
def test_no_bytes_at_all_make_reading_raise(data: bytes) -> None:
    StateFile.from_text(data)
    StateFile.from_text(b'model_checkpoint_path: "' + data + b'"\n')


@pytest.mark.parametrize("data", [b"", b"nonsense", b'all_model_checkpoint_paths: "a-1"\n', b"\x00" * 9])
def test_a_file_that_names_no_checkpoint_is_none(data: bytes) -> None:
    assert StateFile.from_text(data) is None


states = st.builds(
    lambda name, step, paths: StateFile(f"{name}-{step}", tuple(paths)),
    names,
    st.integers(0, 50),
    st.lists(st.sampled_from(["m-1", "m-2"]), max_size=2),
)


@given(st.none() | states, st.integers(0, 50), st.lists(st.sampled_from(["m-1", "m-2"]), max_size=2))
def test_the_state_never_moves_to_a_lower_step(current: StateFile | None, step: int, kept: list[str]) -> None:
    wanted = next_state(current, f"m-{step}", kept)
    if current is None or current.step is None or current.step <= step:
        assert wanted in (None, StateFile(f"m-{step}", tuple(kept)))
        assert (wanted is None) == (current == StateFile(f"m-{step}", tuple(kept)))
    else:
        assert wanted is None


@pytest.mark.parametrize("latest", ["model.ckpt", "something", "x-"])
def test_a_state_without_a_step_gives_way(latest: str) -> None:
    assert next_state(StateFile(latest), "m-0", ["m-0"]) == StateFile("m-0", ("m-0",))


def test_a_sequence_of_moves_in_any_order_ends_at_the_highest_step() -> None:
    current: StateFile | None = None
    for step in (3, 1, 7, 2, 7, 5):
        current = next_state(current, f"m-{step}", [f"m-{step}"]) or current
    assert current == StateFile("m-7", ("m-7",))


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "around", [b"\n" * 1_000_000, b"a:\n" * 300_000, b" " * 1_000_000, b'a: "' * 250_001]
)
def test_a_damaged_file_is_read_in_no_time(around: bytes) -> None:
    line = b'model_checkpoint_path: "model.ckpt-5"\n'
    assert StateFile.from_text(around) is None
    assert StateFile.from_text(line + around) == StateFile("model.ckpt-5")
