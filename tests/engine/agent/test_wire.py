"""The line: answers, errors and cancellation cross it, and its end is noticed on both sides."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ackpt.engine.agent.wire import Document, Line, LineLostError
from ackpt.errors import NotFoundError, UploaderError


class Side:
    """Answer and hear, as one side of a line."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def answer(self, name: str, document: Document) -> Document:
        match name:
            case "twice":
                return {"value": document["value"] * 2}
            case "lost":
                raise NotFoundError("not there", key="k")
            case "long":
                self.began.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        return {}

    def hear(self, name: str, document: Document) -> None:
        self.heard.append(name)


@asynccontextmanager
async def lines() -> AsyncIterator[tuple[Line, Line, Side]]:
    here, there = socket.socketpair(socket.AF_UNIX)
    side = Side()
    one = await Line.open(here, answer=Side().answer, hear=Side().hear)
    other = await Line.open(there, answer=side.answer, hear=side.hear)
    try:
        yield one, other, side
    finally:
        await one.aclose()
        await other.aclose()


async def test_a_question_has_its_answer_and_what_is_told_before_is_heard_before() -> None:
    async with lines() as (line, _, side):
        line.tell("first")
        answers = await asyncio.gather(*(line.ask("twice", value=value) for value in range(5)))
        assert [each["value"] for each in answers] == [0, 2, 4, 6, 8]
        assert side.heard == ["first"]


async def test_an_error_is_raised_where_it_was_asked_for() -> None:
    async with lines() as (line, _, _):
        with pytest.raises(NotFoundError, match="not there") as raised:
            await line.ask("lost")
        assert raised.value.key == "k"


async def test_a_question_that_is_cancelled_is_cancelled_there() -> None:
    async with lines() as (line, _, side):
        asking = asyncio.create_task(line.ask("long"))
        await side.began.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert side.cancelled.is_set()
        assert await line.ask("twice", value=1) == {"value": 2}


async def test_the_end_of_the_line_ends_questions_on_both_sides() -> None:
    async with lines() as (line, other, side):
        asking = asyncio.create_task(line.ask("long"))
        await side.began.wait()
        await other.aclose()
        with pytest.raises(LineLostError):
            await asking
        assert side.cancelled.is_set()
        assert line.lost
        with pytest.raises(UploaderError):
            await line.ask("twice", value=1)


async def test_a_side_that_is_silent_is_taken_for_lost() -> None:
    async with lines() as (line, other, side):
        asking = asyncio.create_task(line.ask("long"))
        await side.began.wait()
        line.listen_for_life(0.01)
        other.tell("alive")  # the reading under way knew no limit; the next one does
        with pytest.raises(LineLostError):
            await asking
        assert line.silent


async def test_what_is_no_json_cuts_the_line() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    side = Side()
    line = await Line.open(here, answer=side.answer, hear=side.hear)
    with there:
        there.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await line.gone()
    assert line.lost
    await line.aclose()
