"""The index of a TensorFlow checkpoint: which tensors it holds, and their checksums, however it is sharded.

The file is a sorted table of blocks in the format of LevelDB, without compression
(https://github.com/google/leveldb/blob/main/doc/table_format.md); its values are `BundleEntryProto`
(https://github.com/tensorflow/tensorflow/blob/v2.15.1/tensorflow/core/protobuf/tensor_bundle.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

_FOOTER_BYTES = 48
_MAGIC = bytes.fromhex("57fb808b247547db")
_HEADER_KEY = b""
_PLACE = (3, 4)
"""The fields `shard_id` and `offset`: where a tensor lies, which says nothing of its content."""

Field = tuple[int, int | bytes]


def same_tensors(one: bytes, other: bytes) -> bool:
    """Tell whether two indexes name the same tensors with the same types, shapes, sizes and checksums.

    Raises:
        ValueError: one of them is no such index.
    """
    return _tensors(one) == _tensors(other)


def _tensors(index: bytes) -> dict[bytes, list[Field]]:
    """Return, by a tensor's key, what its entry says of its content."""
    if len(index) < _FOOTER_BYTES or index[-8:] != _MAGIC:
        raise ValueError("no index of a TensorFlow checkpoint: the magic number is not there")
    footer = memoryview(index)[-_FOOTER_BYTES:]
    _, at = _handle(footer, 0)
    blocks, _ = _handle(footer, at)
    found: dict[bytes, list[Field]] = {}
    for _, handle in _entries(index, *blocks):
        for key, value in _entries(index, *_handle(memoryview(handle), 0)[0]):
            if key != _HEADER_KEY:
                found[key] = [field for field in _fields(value) if field[0] not in _PLACE]
    return found


def _entries(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the keys and values of one block."""
    if offset + size >= len(table) or table[offset + size] != 0:
        raise ValueError(f"a block at {offset} that is cut off or compressed")
    block = memoryview(table)[offset : offset + size]
    if size < 4:
        raise ValueError(f"a block of {size} bytes")
    restarts = int.from_bytes(block[-4:], "little")
    end, at, key = size - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        if at + unshared + length > end:
            raise ValueError("an entry that is cut off")
        key = key[:shared] + bytes(block[at : at + unshared])
        at += unshared
        yield key, bytes(block[at : at + length])
        at += length


def _handle(data: memoryview, at: int) -> tuple[tuple[int, int], int]:
    """Read where a block lies: offset and size; and where the reading ended."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _fields(message: bytes) -> Iterator[Field]:
    """Iterate over a message's fields, undecoded (https://protobuf.dev/programming-guides/encoding/)."""
    data, at = memoryview(message), 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire_type == 2:
            length, at = _varint(data, at)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"a field of wire type {wire_type}")
        if at + length > len(data):
            raise ValueError("a field that is cut off")
        yield number, bytes(data[at : at + length])
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number that does not end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
