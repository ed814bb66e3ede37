"""The listening socket and the life of each client: accept, log in, run, end. Nothing here knows a statement.

Limits before login: a connection that has not logged in within `login_timeout` seconds is closed, and beyond
`max_clients` connections the answer is PostgreSQL's 53300.
"""

import asyncio
import logging
import secrets
import socket

from shardproxy.config import Config
from shardproxy.errors import ConnectionLost, PgError, let_go
from shardproxy.net.stream import Stream
from shardproxy.server.datagrams import Datagrams
from shardproxy.server.workers import Worker
from shardproxy.session.cancel import CancelKeys
from shardproxy.session.database import Database
from shardproxy.session.login import Login
from shardproxy.session.session import Session
from shardproxy.sqlstate import CANNOT_CONNECT_NOW, INTERNAL_ERROR, TOO_MANY_CONNECTIONS
from shardproxy.wire import encode
from shardproxy.wire.constants import authentication_limit
from shardproxy.wire.errors import SilentProtocolError
from shardproxy.wire.framing import FrameReader

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted; Linux limits it to net.core.somaxconn."""

HARD_LIMIT = 2
"""Connections, in multiples of `max_clients`, beyond which a new one is refused unread. Up to there its startup packet
is read first, as in PostgreSQL, since a CancelRequest must be accepted when `max_clients` is reached."""


class Listener:
    """All clients of one process."""

    def __init__(self, config: Config, databases: dict[str, Database], worker: Worker | None = None) -> None:
        self.config = config
        self.databases = databases
        self.sessions: dict[asyncio.Task[None], Session | None] = {}
        self._worker = worker
        self._cancel_keys = CancelKeys()
        self._secret = secrets.token_bytes(32) if worker is None else worker.secret()
        self._datagrams = None if worker is None else Datagrams(worker.directory, worker.number)
        if worker is not None:
            self._cancel_keys = CancelKeys(worker.first_pid, self._datagrams)
        self._join_others()
        self._login = Login(config, self._cancel_keys, self._secret)
        self._server: asyncio.Server | None = None
        self._draining = False

    async def start(self) -> tuple[str, int]:
        """Listen; return the address, with the port that the kernel chose if the configuration has 0."""
        loop = asyncio.get_running_loop()
        if self._worker is not None and self._datagrams is not None:
            self._datagrams.receive(self._cancel_keys, self._defined)
            self._server = await loop.create_server(self._stream, sock=self._worker.socket(), backlog=BACKLOG)
        else:
            self._server = await loop.create_server(
                self._stream,
                self.config.server.host,
                self.config.server.port,
                backlog=BACKLOG,
                reuse_address=True,
            )
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    def reload(self, config: Config, databases: dict[str, Database]) -> None:
        """Use this configuration for clients that log in from now on."""
        self.config = config
        self.databases = databases
        self._login = Login(config, self._cancel_keys, self._secret)
        self._join_others()

    def users_of(self, database: Database) -> set[asyncio.Task[None]]:
        """Return the clients of a database, and those of which it is not known yet: they may be logging in to it."""
        return {task for task, one in self.sessions.items() if one is None or one.database is database}

    def _join_others(self) -> None:
        """Have the other workers told of changes of definitions."""
        if self._datagrams is not None:
            for database in self.databases.values():
                database.tell_others = self._datagrams.defined

    def _defined(self, name: str) -> None:
        """A session of another worker has changed a definition."""
        if name in self.databases:
            self.databases[name].forget_definitions()

    def _stream(self) -> Stream:
        return Stream(FrameReader(authentication_limit), self._accept)

    def _accept(self, stream: Stream) -> None:
        stream.set_option(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.set_option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        task = asyncio.get_running_loop().create_task(self._client(stream))
        self.sessions[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.sessions.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("a session ended because of a bug in shardproxy", exc_info=task.exception())

    async def _client(self, stream: Stream) -> None:
        try:
            session = await self._log_in(stream)
            if session is not None:
                await session.run()
        except TimeoutError:
            # PostgreSQL too closes a late connection without an answer.
            log.info("client %s did not log in in time", stream.peer)
        except SilentProtocolError as error:
            log.info("client %s: %r", stream.peer, error.message)
        except PgError as error:
            log.info("client %s: %r", stream.peer, str(error))
            error.fields["S"] = error.fields["V"] = "FATAL"
            stream.write(encode.error_response(error.fields))
            let_go(error)
        except ConnectionLost as error:
            log.debug("client left: %r", str(error))
        except Exception:
            fields = PgError(INTERNAL_ERROR, "internal error in shardproxy; see its log", severity="FATAL")
            stream.write(encode.error_response(fields.fields))
            raise
        finally:
            stream.close()

    async def _log_in(self, stream: Stream) -> Session | None:
        async with asyncio.timeout(self.config.server.login_timeout):
            if len(self.sessions) > HARD_LIMIT * self.config.server.max_clients:
                raise _too_many()
            # Both of the same configuration: it may be reloaded before the password arrives.
            login, databases = self._login, self.databases
            identity = await login.run(stream, self._admit)
        if identity is None:
            return None
        session = Session(stream, identity, databases[identity.database], self._cancel_keys)
        task = asyncio.current_task()
        assert task is not None
        self.sessions[task] = session
        if self._draining:
            session.drain()
        return session

    def _admit(self) -> None:
        """Refuse a client after its startup packet, which was not a CancelRequest."""
        if self._draining:
            raise PgError(CANNOT_CONNECT_NOW, "the database system is shutting down")
        if len(self.sessions) > self.config.server.max_clients:
            raise _too_many()

    async def drain(self, timeout: float) -> None:
        """Stop accepting, let clients finish their transactions for up to `timeout` seconds, then end them."""
        self._draining = True
        if self._server is not None:
            self._server.close()
        for task, session in list(self.sessions.items()):
            if session is not None:
                session.drain()
            else:
                # Before login there is no transaction to finish. PostgreSQL too closes without an answer here.
                task.cancel()
        waiting = set(self.sessions)
        if waiting:
            await asyncio.wait(waiting, timeout=timeout)
        for task in list(self.sessions):
            task.cancel()
        await asyncio.gather(*self.sessions, return_exceptions=True)


def _too_many() -> PgError:
    return PgError(TOO_MANY_CONNECTIONS, "sorry, too many clients already")
