"""CRC-32C: the published values, and sums of parts that are the sum of the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.errors import LocalFileError
from ackpt.transfer.checksum import combine, crc32c, crc32c_of_file

from .conftest import pattern


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720, appendix B.4, read as big-endian numbers
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_published_values_come_out(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected
    assert crc32c(memoryview(bytearray(data))) == expected


@given(a=st.binary(max_size=300), b=st.binary(max_size=300))
def test_the_sums_of_two_parts_combine_into_the_sum_of_the_whole(a: bytes, b: bytes) -> None:
    assert combine(crc32c(a), crc32c(b), len(b)) == crc32c(a + b) == crc32c(b, crc32c(a))


@given(
    crcs=st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
    lengths=st.tuples(*[st.integers(0, 2**62)] * 2),
)
def test_combining_is_associative_at_any_length(crcs: tuple[int, int, int], lengths: tuple[int, int]) -> None:
    a, b, c = crcs
    length_b, length_c = lengths
    left = combine(combine(a, b, length_b), c, length_c)
    assert left == combine(a, combine(b, c, length_c), length_b + length_c)


def test_a_file_has_the_sum_of_its_bytes(tmp_path: Path) -> None:
    data = pattern(700_001)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert crc32c_of_file(path) == crc32c(data)
    assert crc32c_of_file(path, 3, 600_000) == crc32c(data[3:600_000])
    assert crc32c_of_file(path, 5, 5) == 0


def test_a_file_that_ends_early_has_no_sum(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    with pytest.raises(LocalFileError, match="expected at least 5 bytes, found 4"):
        crc32c_of_file(path, 0, 5)
    with pytest.raises(LocalFileError, match="no such file"):
        crc32c_of_file(tmp_path / "absent")
