"""Options in URLs: read by type, refused with what was expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.errors import InvalidOptionError
from ackpt.options import (
    GiB,
    KiB,
    MiB,
    TransferOptions,
    choice,
    count,
    duration,
    flag,
    option,
    option_names,
    read_options,
    size,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopOptions:
    tier: str = option("tier", choice("hot", "cold"), "hot")
    dry: bool = option("dry_run", flag, False)
    secret: str = option("secret", choice("right"), "", private=True)
    plain: int = 3

    def __post_init__(self) -> None:
        if self.tier == "cold" and self.dry:
            raise InvalidOptionError("dry_run: not with tier=cold")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("33554432", 32 * MiB),
        ("7B", 7),
        ("64KiB", 64 * KiB),
        (" 32 MiB ", 32 * MiB),
        ("2GiB", 2 * GiB),
        ("1TiB", 1024 * GiB),
        ("5kB", 5000),
        ("5MB", 5_000_000),
        ("1GB", 10**9),
        ("1TB", 10**12),
    ],
)
def test_a_size_has_a_unit_or_is_in_bytes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1.5MiB", "32mib", "32 M", "1e6", "٣", "9" * 5000, "1\nMiB x"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size such as"):
        size(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30", 30.0),
        ("30s", 30.0),
        ("250ms", 0.25),
        ("1.5m", 90.0),
        ("5min", 300.0),
        ("2h", 7200.0),
        ("0", 0.0),
    ],
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, value: float) -> None:
    assert duration(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "-1s", "nan", "inf", "1e3", "1.s", "1 day", "9" * 400])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        duration(text)


@pytest.mark.parametrize("text", ["0", "", "-1", "1.0", "²", "٣", "9" * 5000, "one"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a whole number from 1 up"):
        count(text)
    assert count("007") == 7


@given(st.text(), st.sampled_from([size, duration, count, flag]))
def test_a_reader_fails_with_what_it_expected(text: str, reader: Callable[[str], object]) -> None:
    try:
        reader(text)
    except ValueError as error:
        message = str(error)
    else:
        return
    assert message.startswith(("a ", "true or false"))


def test_options_are_read_by_their_names() -> None:
    given_options = {"tier": "cold", "secret": "right"}
    assert read_options(ShopOptions, given_options, where="shop://x") == ShopOptions(
        tier="cold", secret="right"
    )
    assert read_options(ShopOptions, {}, where="shop://x") == ShopOptions()
    assert option_names(ShopOptions) == {"tier", "dry_run", "secret"}


def test_an_unknown_option_lists_the_backends_and_the_generic_ones() -> None:
    with pytest.raises(InvalidOptionError) as caught:
        read_options(ShopOptions, {"teir": "hot"}, where="shop://x")
    assert str(caught.value) == (
        "unknown option 'teir' for shop://x; valid options: attempts, concurrency, copy_unchanged, "
        "dry_run, max_bytes_per_sec, memory, min_concurrency, part_size, retry_timeout, save_timeout, "
        "secret, stall_timeout, tier; did you mean 'tier'?"
    )


@pytest.mark.parametrize(
    "name", ["secret_access_key", "access_token", "X-Amz-Signature", "sig", "password", "AccountKey", "key"]
)
def test_an_unknown_option_that_is_a_credential_says_where_those_go(name: str) -> None:
    with pytest.raises(InvalidOptionError, match="credentials do not belong in a URL") as caught:
        read_options(ShopOptions, {name: "MARKER"}, where="shop://x")
    assert "MARKER" not in str(caught.value)


def test_a_field_that_is_no_option_cannot_be_set() -> None:
    with pytest.raises(InvalidOptionError, match="unknown option 'plain'"):
        read_options(ShopOptions, {"plain": "4"}, where="shop://x")


def test_transfer_options_are_passed_over_by_a_backend() -> None:
    assert read_options(ShopOptions, {"part_size": "nonsense"}, where="shop://x") == ShopOptions()


def test_a_wrong_value_says_what_was_expected() -> None:
    with pytest.raises(InvalidOptionError) as caught:
        read_options(ShopOptions, {"tier": "warm"}, where="shop://x")
    assert str(caught.value) == "option 'tier' for shop://x: expected one of hot, cold, got 'warm'"
    with pytest.raises(InvalidOptionError, match="expected true or false, got 'yes'"):
        read_options(ShopOptions, {"dry_run": "yes"}, where="shop://x")


def test_a_private_value_is_in_no_text() -> None:
    with pytest.raises(InvalidOptionError) as caught:
        read_options(ShopOptions, {"secret": "MARKER"}, where="shop://x")
    assert "MARKER" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert "MARKER" not in repr(ShopOptions(secret="MARKER"))


def test_values_that_do_not_go_together_name_the_url() -> None:
    with pytest.raises(InvalidOptionError, match=r"not with tier=cold \(in shop://x\)"):
        read_options(ShopOptions, {"tier": "cold", "dry_run": "true"}, where="shop://x")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"part_bytes": 0}, "'part_size': expected at least 1, got 0"),
        ({"connections": 0}, "'concurrency'"),
        ({"memory_bytes": -1}, "'memory'"),
        ({"attempts": 0}, "'attempts'"),
        ({"retry_secs": -0.1}, "'retry_timeout'"),
        ({"retry_secs": float("nan")}, "'retry_timeout'"),
        ({"retry_secs": float("inf")}, "'retry_timeout'"),
    ],
)
def test_transfer_options_have_ranges(values: dict[str, float], says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says):
        TransferOptions(**values)
