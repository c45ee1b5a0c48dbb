"""The manifest: what is written can be read, and nothing else is trusted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.checkpoint.manifest import FORMAT, Manifest, check_key, make_prefix, split_prefix
from ackpt.errors import CorruptCheckpointError, InvalidOptionError
from tests.checkpoint.manifests import manifest, manifests, names, segments, steps


@given(manifests())
def test_a_manifest_reads_back_as_it_was_written(original: Manifest) -> None:
    assert Manifest.from_json(original.to_json(), key=original.key) == original


@given(names, steps)
def test_a_prefix_splits_into_the_name_and_the_step_it_was_made_of(name: str, step: int) -> None:
    assert split_prefix(make_prefix(name, step)) == (name, step)


@given(names, steps, st.sampled_from("./"), st.lists(segments, min_size=1, max_size=3))
def test_a_plain_key_below_the_prefix_is_accepted(name: str, step: int, mark: str, rest: list[str]) -> None:
    prefix = make_prefix(name, step)
    check_key(f"{prefix}{mark}{'/'.join(rest)}", prefix)


@pytest.mark.parametrize(
    "key",
    [
        "ckpt-5/../ckpt-4/x",
        "ckpt-5/a/../../x",
        "ckpt-5/..",
        "ckpt-5/.",
        "ckpt-5/./a",
        "ckpt-5//a",
        "ckpt-5/a/",
        "ckpt-5/",
        "ckpt-5.",
        "ckpt-5",
        "ckpt-55.index",
        "ckpt-4.index",
        "other/ckpt-5.index",
        "/ckpt-5.index",
        "/etc/passwd",
        "../ckpt-5.index",
        "ckpt-5\\..\\x",
        "ckpt-5.a\\b",
        "ckpt-5.a\nb",
        "ckpt-5.a\x00b",
        "ckpt-5.\udc80",
        "",
    ],
)
def test_a_key_that_is_not_a_plain_path_below_its_prefix_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        check_key(key, "ckpt-5")


@pytest.mark.parametrize("suffix", [".manifest.json", ".deleted.json", ".sending.json"])
def test_a_key_that_belongs_to_our_own_book_keeping_is_refused(suffix: str) -> None:
    with pytest.raises(ValueError, match="not a checkpoint's own"):
        check_key(f"ckpt-5{suffix}", "ckpt-5")


@pytest.mark.parametrize(
    ("name", "step"),
    [("", 1), (".", 1), ("..", 1), (".x", 1), ("-x", 1), ("a/b", 1), ("a\\b", 1), ("a\n", 1), ("a", -1)],
)
def test_a_name_or_a_step_that_makes_no_prefix_is_refused(name: str, step: int) -> None:
    with pytest.raises(InvalidOptionError):
        make_prefix(name, step)


@pytest.mark.parametrize(
    "prefix", ["", "ckpt", "-5", "ckpt-", "ckpt-05", "ckpt-5\n", "a/ckpt-5", "ckpt-5x", "ckpt-٥"]
)
def test_what_is_not_a_name_and_a_step_is_not_split(prefix: str) -> None:
    with pytest.raises(ValueError, match="expected <name>-<step>"):
        split_prefix(prefix)


def document(**changes: object) -> dict[str, Any]:
    return {**json.loads(manifest().to_json()), **changes}


def with_object(**changes: object) -> dict[str, Any]:
    whole = document()
    whole["objects"][0].update(changes)
    return whole


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (document(format="ackpt.manifest/2"), "ackpt.manifest/2"),
        (document(step=6), "step 6 under the prefix 'model.ckpt-5'"),
        (document(prefix="model.ckpt-6", step=6), "it says it is 'model.ckpt-6.manifest.json'"),
        (document(step="5"), "expected a whole number"),
        (document(step=True), "expected a whole number"),
        (document(created="2026-01-01T00:00:00"), "without its zone"),
        (document(created=17), "TypeError"),
        (document(created="0001-01-01T00:00:00+14:00"), "OverflowError"),
        (document(writer="\ud800"), "UnicodeEncodeError"),
        (document(metrics={"\ud800": 1}), "UnicodeEncodeError"),
        (document(objects=[]), "no objects"),
        (document(objects=document()["objects"] * 2), "an object twice"),
        (document(metrics=[1]), "AttributeError"),
        (document(metrics={"loss": 10**400}), "OverflowError"),
        (with_object(key="model.ckpt-5/../../x"), "not a plain path"),
        (with_object(key="/etc/passwd"), "not below"),
        (with_object(key="model.ckpt-5\\x"), "not below"),
        (with_object(key="model.ckpt-4.index"), "not below"),
        (with_object(key="model.ckpt-5.manifest.json"), "own"),
        (with_object(size=-1), "expected a whole number"),
        (with_object(size=2**63), "expected a size of less than 2**63 bytes"),
        (with_object(size=10**400), "got one of 401 digits"),
        (with_object(version="\ud800"), "UnicodeEncodeError"),
        (with_object(size=1.5), "expected a whole number"),
        (with_object(crc32c="-1"), "crc32c"),
        (with_object(crc32c="123456789"), "crc32c"),
        (with_object(crc32c="0x1234"), "crc32c"),
        (with_object(crc32c=17), "crc32c"),
        ({k: v for k, v in document().items() if k != "writer"}, "KeyError"),
        ([], "TypeError"),
        ("text", "TypeError"),
        (None, "TypeError"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_not_trusted(given: object, reason: str) -> None:
    with pytest.raises(CorruptCheckpointError, match="model.ckpt-5.manifest.json") as raised:
        Manifest.from_json(json.dumps(given).encode(), key="model.ckpt-5.manifest.json")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"\x00" * 100, b"[" * 100_000, b"1" * 5000], ids=lambda d: d[:8]
)
def test_garbage_is_not_trusted(data: bytes) -> None:
    with pytest.raises(CorruptCheckpointError):
        Manifest.from_json(data, key="model.ckpt-5.manifest.json")


@given(st.binary(max_size=64), st.integers(0, 400))
def test_a_manifest_that_was_damaged_is_refused_or_still_keeps_every_rule(noise: bytes, at: int) -> None:
    whole = manifest().to_json()
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    try:
        read = Manifest.from_json(damaged, key=manifest().key)
    except CorruptCheckpointError:
        return
    for each in read.objects:
        check_key(each.key, "model.ckpt-5")
    assert read.step == 5


def test_content_is_the_same_whatever_the_graph_description_holds() -> None:
    prefix = "model.ckpt-5"
    content = {f"{prefix}.data-00000-of-00001": (3, 0x1234), f"{prefix}.index": (3, 0x1234)}
    assert manifest().same_content(content)
    assert manifest().same_content({**content, f"{prefix}.meta": (9, 9)})
    assert not manifest().same_content({**content, f"{prefix}.index": (3, 0x1235)})
    assert not manifest().same_content({**content, f"{prefix}.index": (4, 0x1234)})
    assert not manifest().same_content({**content, f"{prefix}.more": (0, 0)})
    assert not manifest().same_content({f"{prefix}.index": (3, 0x1234)})


def test_the_checksum_is_written_as_eight_hexadecimal_digits() -> None:
    written = json.loads(manifest().to_json())
    assert written["format"] == FORMAT
    assert [each["crc32c"] for each in written["objects"]] == ["00001234", "00001234"]
