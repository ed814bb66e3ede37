"""A TCP proxy that breaks connections at an exact point of the PostgreSQL protocol.

It stands between two peers (shardproxy and a shard, or a client and shardproxy), forwards whole messages, and
applies `Rule`s: "at the n-th message of this type, with this text, on a session of this application_name: do that".
But for LIE it never changes a message; what it breaks is when, whether and how much of it arrives.

A rule meets its message at one of four moments:

    BEFORE    nothing of the message has been forwarded
    SENT      the message has been forwarded; whether the server still acts on it is a race
    ANSWERED  the server has answered in full, and nothing of the answer has been forwarded: done, but not known
    REPLIED   the answer has been forwarded in full

The answer to a COPY is its CopyInResponse (or the error); to CopyDone and everything else, what ends with
ReadyForQuery. Trust authentication only, for ANSWERED at start-up would hold back a password request.

Driven by: `async with FaultProxy(host, port) as proxy`, connect to `proxy.port`, `proxy.add(rule)`, and `await
proxy.heal()`, which takes the rules away, lets stalled bytes go on (also to a peer that has left meanwhile, as a
network would deliver them late), and listens again. Runs in the caller's event loop.
"""

import asyncio
import contextlib
import socket
import struct
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self

from shardproxy.embedded.server import free_port
from shardproxy.wire.constants import B, F

STARTUP = 0
"""The type of the startup packet, which has no type byte."""

_SSL, _GSSENC, _CANCEL = 80877103, 80877104, 80877102
_NO_LINGER = struct.pack("ii", 1, 0)
_TRICKLE_PIECES = 50


class When(Enum):
    """See the module's table."""

    BEFORE = "before"
    SENT = "sent"
    ANSWERED = "answered"
    REPLIED = "replied"


class Fault(Enum):
    """What is done to the connection."""

    CLOSE = "close"  # FIN to both sides, as a process leaves that was killed
    RESET = "reset"  # RST to both sides
    STALL = "stall"  # nothing passes in either direction until `heal`
    CUT = "cut"  # half of the message (ANSWERED: of the answer), then FIN to both
    DELAY = "delay"  # the message (ANSWERED: the answer) waits for `seconds`
    TRICKLE = "trickle"  # the same, in pieces of a few bytes over `seconds`
    REORDER = "reorder"  # the message (ANSWERED: the answer) waits until another connection has overtaken it
    LIE = "lie"  # the message (ANSWERED: the answer) is replaced by what `lie` makes of it


class Towards(Enum):
    """The direction of a message."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(eq=False)
class Rule:
    """One fault, done once. `text` occurs in the message; `application` is the session's application_name."""

    fault: Fault
    type: int
    text: bytes = b""
    nth: int = 1
    when: When = When.BEFORE
    application: str | None = None
    towards: Towards = Towards.SERVER
    spread: bool = False  # the peer behind is away as a whole: all its connections, and those to come
    seconds: float = 0.2  # REORDER: at most
    overtaken_by: "FaultProxy | None" = None  # REORDER: a message through there counts; None: through this proxy
    lie: Callable[[bytes], bytes] = bytes
    met: int = 0
    fired: asyncio.Event = field(default_factory=asyncio.Event)

    def meets(self, wire: "Wire", towards: Towards, code: int, data: bytes) -> bool:
        """Whether this is the message; counts those that it is not yet."""
        if self.met >= self.nth or towards is not self.towards or code != self.type or self.text not in data:
            return False
        if self.application is not None and wire.application != self.application:
            return False
        self.met += 1
        return self.met == self.nth


class _OverError(Exception):
    """The connection has been broken on purpose."""


class FaultProxy:
    """Forwards `port` of loopback to a server, with faults."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = free_port()
        self._rules: list[Rule] = []
        self._wires: dict[Wire, asyncio.Task[None]] = {}
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._server: asyncio.Server | None = None
        self._defects: list[Exception] = []
        self._away: Fault | None = None
        self._back = asyncio.Event()
        self._back.set()
        self._passed = asyncio.Condition()
        self._last: Wire | None = None

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._rules.clear()
        self._stop_listening()
        tasks = list(self._wires.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that is cancelled before its first step closes nothing, and `close` waits for a peer to take what it
        # has not read: without this, sockets would be left to the garbage collector, in some later test.
        for transport in list(self._transports):
            # One that was closed with something to send, and has sent it, takes no abort any more.
            if not transport.is_closing() or transport.get_write_buffer_size():
                transport.abort()
        await asyncio.sleep(0)
        if self._defects:
            raise self._defects[0]

    @property
    def open(self) -> int:
        """The connections that stand."""
        return len(self._wires)

    def add(self, *rules: Rule) -> None:
        """Apply rules from now on."""
        self._rules.extend(rules)

    async def heal(self) -> None:
        """Take all faults back: late bytes arrive now."""
        self._rules.clear()
        self._away = None
        self._back.set()
        for wire in list(self._wires):
            wire.resume()
        if self._server is None:
            await self._listen()

    def drop(self) -> None:
        """Close the connections that are stalled: what they hold back is lost, as when a process is killed."""
        for wire in list(self._wires):
            if wire.stalled:
                wire.do(Fault.CLOSE)

    def away(self, fault: Fault) -> None:
        """Break every connection, and those to come until `heal`: refused (CLOSE), reset or stalled."""
        self._away = fault
        if fault is Fault.CLOSE:
            self._stop_listening()
        if fault is Fault.STALL:
            self._back.clear()
        for wire in list(self._wires):
            wire.do(fault)

    def matching(self, wire: "Wire", towards: Towards, code: int, data: bytes) -> Rule | None:
        """Return the rule that this message meets."""
        return next((rule for rule in list(self._rules) if rule.meets(wire, towards, code, data)), None)

    async def passed(self, wire: "Wire") -> None:
        """Let those know who wait for another connection to go first."""
        async with self._passed:
            self._last = wire
            self._passed.notify_all()

    async def overtaken(self, behind: "Wire", seconds: float) -> None:
        """Wait until a message has passed on another connection than this, and no longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._passed:
                self._last = None
                await self._passed.wait_for(lambda: self._last not in {None, behind})

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away is Fault.RESET:
            _reset(writer)
            return
        self._transports.add(writer.transport)
        wire = Wire(self, reader, writer)
        self._wires[wire] = asyncio.ensure_future(self._serve(wire))

    async def _serve(self, wire: "Wire") -> None:
        try:
            await self._back.wait()
            wire.server = await asyncio.open_connection(*self._target)
            self._transports.add(wire.server[1].transport)
            await wire.run()
        except (ConnectionError, asyncio.IncompleteReadError, _OverError):
            pass  # how a connection ends here
        except Exception as error:  # of this module: whoever runs it must hear of it
            self._defects.append(error)
            raise
        finally:
            self._wires.pop(wire, None)
            wire.close()


class Wire:
    """One connection through the proxy."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.application = ""
        self.client = (reader, writer)
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._proxy = proxy
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._broken = False
        self._raw_answers = 0  # to SSLRequest and GSSENCRequest: one byte each
        self._asked = 0  # requests that end with ReadyForQuery
        self._answered = 0
        self._awaiting: Rule | None = None
        self._held = b""

    async def run(self) -> None:
        """Forward until one side ends."""
        jobs: list[Coroutine[Any, Any, None]] = [self._upwards(), self._downwards()]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    # What is done to it.

    @property
    def stalled(self) -> bool:
        """Whether nothing passes."""
        return not self._flowing.is_set()

    def do(self, fault: Fault) -> None:
        """Break it."""
        if fault is Fault.STALL:
            self._flowing.clear()
            return
        self._broken = True
        self._flowing.set()
        self.close(reset=fault is Fault.RESET)

    def resume(self) -> None:
        """End a stall."""
        self._flowing.set()

    def close(self, *, reset: bool = False) -> None:
        """Close both sides."""
        for side in (self.client, self.server):
            if side is not None and reset:
                _reset(side[1])
            elif side is not None:
                side[1].close()

    async def _fire(self, rule: Rule) -> None:
        rule.fired.set()
        if rule.fault is Fault.REORDER:
            await (rule.overtaken_by or self._proxy).overtaken(self, rule.seconds)
        if rule.fault in {Fault.DELAY, Fault.TRICKLE, Fault.REORDER, Fault.LIE}:
            return
        if rule.spread:
            self._proxy.away(rule.fault)
        self.do(rule.fault)
        await self._pass()

    async def _pass(self) -> None:
        """Wait while stalled; stop when broken."""
        await self._flowing.wait()
        if self._broken:
            raise _OverError

    # Messages.

    async def _upwards(self) -> None:
        reader = self.client[0]
        assert self.server is not None
        while True:
            head = await reader.readexactly(8)
            length, code = struct.unpack("!ii", head)
            data = head + await reader.readexactly(length - 8)
            if code in {_SSL, _GSSENC}:
                self._raw_answers += 1
                self.server[1].write(data)
                continue
            if code != _CANCEL:
                words = data[8:].split(b"\0")
                settings = dict(zip(words[0::2], words[1::2], strict=False))
                self.application = settings.get(b"application_name", b"").decode()
                self._asked += 1
            await self._forward(Towards.SERVER, STARTUP, data)
            break
        while True:
            data = await _message(reader)
            if data[0] in {F.QUERY, F.SYNC, F.FUNCTION_CALL}:
                self._asked += 1
            await self._forward(Towards.SERVER, data[0], data)

    async def _downwards(self) -> None:
        assert self.server is not None
        reader = self.server[0]
        while True:
            if self._raw_answers:
                self._raw_answers -= 1
                self.client[1].write(await reader.readexactly(1))
                continue
            data = await _message(reader)
            begun = self._answered
            if data[0] == B.READY_FOR_QUERY:
                self._answered += 1
            rule = self._awaiting
            if rule is None or begun < self._due - 1:
                await self._forward(Towards.CLIENT, data[0], data)
                continue
            ends = self._answered == self._due or (
                data[0] == B.COPY_IN_RESPONSE and rule.type == F.QUERY and begun == self._due - 1
            )
            await self._answer(rule, data, ends)

    async def _answer(self, rule: Rule, data: bytes, ends: bool) -> None:
        """Forward or hold back a part of the answer that a rule waits for."""
        writer = self.client[1]
        if rule.when is When.REPLIED:
            writer.write(data)
            if ends:
                await writer.drain()
        else:
            self._held += data
        if not ends:
            return
        held, self._held, self._awaiting = self._held, b"", None
        if rule.when is When.ANSWERED and rule.fault is Fault.CUT:
            writer.write(held[: len(held) // 2])
        await self._fire(rule)
        if rule.when is When.ANSWERED:
            await _slowly(writer, held, rule)

    async def _forward(self, towards: Towards, code: int, data: bytes) -> None:
        await self._pass()
        assert self.server is not None
        writer = (self.server if towards is Towards.SERVER else self.client)[1]
        rule = self._proxy.matching(self, towards, code, data)
        if rule is None:
            writer.write(data)
            await self._proxy.passed(self)
            await writer.drain()
            return
        match rule.when:
            case When.BEFORE:
                if rule.fault is Fault.CUT:
                    writer.write(data[: max(len(data) // 2, 1)])
                await self._fire(rule)
                await _slowly(writer, data, rule)
            case When.SENT:
                writer.write(data)
                await writer.drain()
                await self._fire(rule)
            case When.ANSWERED | When.REPLIED:
                self._awaiting, self._due = rule, self._asked
                writer.write(data)
                await writer.drain()

    _due = 0


async def _slowly(writer: asyncio.StreamWriter, data: bytes, rule: Rule) -> None:
    """Write what a rule has held back."""
    if rule.fault is Fault.LIE:
        data = rule.lie(data)
    if rule.fault is Fault.DELAY:
        await asyncio.sleep(rule.seconds)
    step = max(len(data) // _TRICKLE_PIECES, 1) if rule.fault is Fault.TRICKLE else max(len(data), 1)
    for at in range(0, len(data), step):
        writer.write(data[at : at + step])
        if rule.fault is Fault.TRICKLE:
            await writer.drain()
            await asyncio.sleep(rule.seconds * step / len(data))
    await writer.drain()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


def _reset(writer: asyncio.StreamWriter) -> None:
    if writer.is_closing():
        return
    found = writer.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
