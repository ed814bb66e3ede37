"""What is told of a load while it runs."""

import asyncio
import io
import json
import sys
import threading
from collections.abc import Iterator

import pytest

from shardproxy.loader import progress, stage
from shardproxy.loader.input import Alterations
from shardproxy.loader.prefetch import Prefetch
from shardproxy.loader.stage import Stage
from shardproxy.loader.summary import Summary


def watched() -> Stage:
    made = Stage(Summary("t", "server", "id"), Alterations(), total=1000)
    made.doing = "reading a.csv"
    made.summary.read, made.summary.set_aside, made.altered.bytes_read = 40, 2, 250
    return made


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def told(kind: progress.Kind, output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is shown of something that does not move."""
    for report in (progress.Bar, progress.Lines, progress.Json):
        monkeypatch.setattr(report, "every", 0.01)
    monkeypatch.setattr(stage, "STALLED", 0.05)
    async with progress.shown(watched(), kind, output):
        for _ in range(100):
            await asyncio.sleep(0.01)
            if "moved" in output.getvalue() or "stalled" in output.getvalue():
                break
        await asyncio.sleep(0.1)
    return output.getvalue()


async def test_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (await told("auto", io.StringIO(), monkeypatch)).splitlines()
    assert lines[0].startswith("t: reading a.csv; 25%, 40 rows, ")
    assert "2 set aside" in lines[0]
    assert lines[0].endswith(" s left")
    stalls = [line for line in lines if "nothing has moved" in line]
    assert stalls == ["t: nothing has moved for 0 s while reading a.csv"]


async def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [json.loads(line) for line in (await told("json", io.StringIO(), monkeypatch)).splitlines()]
    assert facts[0]["stage"] == "reading a.csv"
    assert (facts[0]["read"], facts[0]["bytes"], facts[0]["total_bytes"]) == (40, 250, 1000)
    assert facts[0]["seconds_left"] == pytest.approx(3 * facts[0]["seconds"], abs=0.1)
    assert sum("stalled_seconds" in one for one in facts) == 1


async def test_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = await told("auto", Terminal(), monkeypatch)
    assert "t: reading a.csv" in text
    assert "25 %" in text
    assert "nothing has moved for 0 s while reading a.csv" in text


async def test_without_rich_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert "t: reading a.csv; 25%" in await told("bar", io.StringIO(), monkeypatch)


async def test_nothing() -> None:
    output = io.StringIO()
    async with progress.shown(watched(), "none", output):
        await asyncio.sleep(0.05)
    assert output.getvalue() == ""


async def test_no_more_is_read_ahead_than_was_asked_for() -> None:
    read: list[int] = []

    def items() -> Iterator[bytes]:
        for number in range(100):
            read.append(number)
            yield bytes(10)

    async with Prefetch(items(), len, 30) as ahead:
        count = 0
        async for _ in ahead:
            count += 1
            await asyncio.sleep(0.001)
            assert len(read) <= count + 5
    assert count == 100


async def test_an_error_of_the_reading_comes_after_what_was_read() -> None:
    def items() -> Iterator[bytes]:
        yield b"a"
        raise ValueError("the second")

    async with Prefetch(items(), len, 30) as ahead:
        reading = aiter(ahead)
        assert await anext(reading) == b"a"
        with pytest.raises(ValueError, match="the second"):
            await anext(reading)


async def test_a_reader_that_is_given_up_ends() -> None:
    before = threading.active_count()

    def items() -> Iterator[bytes]:
        while True:
            yield bytes(10)

    async with Prefetch(items(), len, 30) as ahead:
        async for _ in ahead:
            break
    for _ in range(200):
        if threading.active_count() == before:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the thread is still there")
