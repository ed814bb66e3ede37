"""`shardproxy demo` as its user meets it: its words, its psql line, its end."""

import contextlib
import csv
import io
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from shardproxy.embedded.installation import SCRATCH_VARIABLE
from shardproxy.embedded.sample import BLOCK, orders

PATIENCE = 60.0


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-u", "-m", "shardproxy", "demo", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read_until(demo: "subprocess.Popen[str]", end: str) -> str:
    assert demo.stdout is not None
    text = ""
    for line in demo.stdout:
        text += line
        if end in line:
            return text
    raise AssertionError(f"{end!r} never came, but:\n{text}")


def ports(text: str) -> list[int]:
    """The ports of the shards and of the proxy."""
    shards = re.search(r"on ports ([\d, ]+)\.", text)
    proxy = re.search(r"proxy listens on 127\.0\.0\.1:(\d+)", text)
    assert shards
    assert proxy
    return [*map(int, shards[1].split(", ")), int(proxy[1])]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until_silent(where: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(map(listens, where)):
        assert time.monotonic() < deadline, [port for port in where if listens(port)]
        time.sleep(0.05)


def test_once_loads_checks_and_ends() -> None:
    with start("--once", "--port", "0", "--rows", "30000", "--shards", "3") as demo:
        text = read_until(demo, "returns all of them")
        assert demo.wait(PATIENCE) == 0
    assert re.search(r"^COPY 30,000 rows, .* rows/s, .* MB/s$", text, re.MULTILINE)
    shards = re.findall(r"^  s(\d) +\d+ +([\d,]+) +[\d.]+% +all$", text, re.MULTILINE)
    assert [number for number, _ in shards] == ["0", "1", "2"]
    assert sum(int(count.replace(",", "")) for _, count in shards) == 30000
    assert not any(map(listens, ports(text)))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_serves_the_pasted_psql_line_until_a_signal(signum: signal.Signals) -> None:
    with contextlib.ExitStack() as stack:
        # As a shell starts what runs in the background: neither signal may get lost.
        ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            demo = stack.enter_context(start("--port", "0", "--rows", "5000", "--shards", "2"))
        finally:
            signal.signal(signal.SIGINT, ours)
        text = read_until(demo, "Press Ctrl-C to stop.")
        pasted = re.search(r"^  (\S.*postgresql://\S+)$", text, re.MULTILINE)
        assert pasted
        answer = subprocess.run(
            ["bash", "-c", f"{pasted[1]} -XAt -c 'SELECT email FROM orders WHERE id = 4711'"],
            capture_output=True,
            text=True,
            check=False,
        )
        expected = next(row for _, block in orders(5000) for row in rows_of(block) if row[0] == "4711")
        assert (answer.stdout, answer.stderr) == (f"{expected[2]}\n", "")
        aside = subprocess.run(
            [
                "bash",
                "-c",
                f"{pasted[1]} -XAt -c \"SET shardproxy.on_error = 'resume_next'\" -c 'COPY orders FROM STDIN'",
            ],
            input="what\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert aside.stdout == "SET\nCOPY 0\n"
        directory = re.search(r"sets bad rows aside, in (\S+)\.$", text, re.MULTILINE)
        assert directory
        assert f"See {directory[1]}/shop/public.orders." in aside.stderr
        demo.send_signal(signum)
        assert demo.stdout is not None
        assert demo.stdout.read().strip() == "Stopping."
        assert demo.wait(PATIENCE) == 0
    assert not any(map(listens, ports(text)))


def test_nothing_outlives_a_killed_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        monkeypatch.setenv("TMPDIR", scratch)
        monkeypatch.delenv(SCRATCH_VARIABLE, raising=False)
        with start("--port", "0", "--rows", "1000", "--shards", "2") as demo:
            text = read_until(demo, "Press Ctrl-C to stop.")
            assert all(map(listens, ports(text)))
            assert len(list(Path(scratch).glob("shardproxy-[dp]*"))) == 3  # the proxy's, and each shard's
            demo.kill()
        wait_until_silent(ports(text))
        deadline = time.monotonic() + 20
        while left := list(Path(scratch).glob("shardproxy-[dp]*")):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


def test_a_signal_during_the_load_ends_it() -> None:
    with start("--port", "0", "--rows", "50000000", "--shards", "2") as demo:
        text = read_until(demo, " of 50,000,000 rows")
        demo.send_signal(signal.SIGINT)
        assert demo.wait(PATIENCE) == 130
        assert demo.stdout is not None
        assert "Traceback" not in demo.stdout.read()
    assert not any(map(listens, ports(text)))


def test_a_taken_port_is_said_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start("--port", str(port), "--rows", "10", "--shards", "1") as demo:
            assert demo.stdout is not None
            text = demo.stdout.read()
            assert demo.wait(PATIENCE) == 1
    assert "choose another port with --port" in text
    assert "Traceback" not in text


def rows_of(block: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(block.decode(), newline=""), strict=True))


def test_the_orders_are_the_same_every_time_and_have_awkward_values() -> None:
    blocks = list(orders(2 * BLOCK + 5))
    assert [count for count, _ in blocks] == [BLOCK, BLOCK, 5]
    assert blocks == list(orders(2 * BLOCK + 5))
    rows = [row for _, block in blocks for row in rows_of(block)]
    assert [int(row[0]) for row in rows] == list(range(1, 2 * BLOCK + 6))
    assert {len(row) for row in rows} == {8}
    notes = b"".join(block for _, block in blocks)
    for awkward in (b'""not', b"at\nthe", b',""\n', b",\n", "Ü".encode()):
        assert awkward in notes
