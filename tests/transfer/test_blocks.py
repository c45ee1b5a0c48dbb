"""Blocks: used again, but never under the eyes of anybody."""

from __future__ import annotations

from ackpt.transfer.blocks import BLOCK_BYTES, BlockPool


def test_a_block_that_came_back_is_lent_again_unchanged() -> None:
    pool = BlockPool(keep=2)
    block = pool.take()
    block[:] = b"x" * BLOCK_BYTES
    pool.give(block)
    again = pool.take()
    assert again is block
    assert again == b"x" * BLOCK_BYTES


def test_a_block_is_not_lent_again_while_a_piece_of_a_view_is_left() -> None:
    pool = BlockPool(keep=2)
    block = pool.take()
    unsent = memoryview(memoryview(block)[:100].toreadonly())[50:]  # as a transport keeps it
    pool.give(block)
    other = pool.take()
    assert other is not block
    del unsent
    pool.give(other)
    assert {id(pool.take()), id(pool.take())} == {id(block), id(other)}


def test_no_more_than_the_bound_is_kept() -> None:
    pool = BlockPool(keep=2)
    blocks = [pool.take() for _ in range(5)]
    for block in blocks:
        pool.give(block)
    again = [pool.take() for _ in range(5)]
    assert sum(any(block is each for each in blocks) for block in again) == 2
