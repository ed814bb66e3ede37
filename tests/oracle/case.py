"""What is sent: the steps of one session. Their `repr` is the Python that makes them, so that a case can be kept."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from shardproxy.wire import encode


@dataclass(frozen=True)
class Param:
    """A parameter of the extended protocol: its declared type (0: none), its value and format."""

    oid: int
    value: bytes | None
    binary: bool = False

    def __repr__(self) -> str:
        return f"Param({self.oid}, {self.value!r}{', True' if self.binary else ''})"


_LIMITED = re.compile(
    r"(?P<head> (LIMIT|FETCH FIRST) )(?P<count>\S+)(?P<tail>( ROWS ONLY)?)(?P<offset>( OFFSET \d+)?)$", re.DOTALL
)
"""How a generated SELECT ends that has a LIMIT without ORDER BY."""


@dataclass(frozen=True)
class Step:
    """One exchange up to ReadyForQuery.

    Without `params` it is a simple query, with `data` a COPY FROM STDIN; else Parse, Bind, Describe, Execute, Sync.
    With `pieces` the portal is read by three of Execute. What is in `more` is sent before the same Sync.
    """

    sql: str
    params: tuple[Param, ...] | None = None
    name: str = ""  # of the prepared statement
    ordered: bool = False  # the order of its rows is PostgreSQL's promise
    binary: bool = False  # the results' format
    describe: str = "P"  # the portal, the Statement, or nothing
    data: bytes | None = None
    pieces: int = 0  # rows that each of a portal's first two Executes asks for
    more: tuple["Step", ...] = ()

    def __repr__(self) -> str:
        given = [(one, getattr(self, one.name)) for one in fields(self)[1:]]
        return f"Step({', '.join([repr(self.sql), *(f'{one.name}={v!r}' for one, v in given if v != one.default)])})"

    def unlimited(self) -> "Step | None":
        """The same without LIMIT and OFFSET, if any of its rows will do."""
        found = _LIMITED.search(self.sql)
        if found is None or self.ordered or self.more or "; " in self.sql:
            return None
        head, count, tail = found["head"], found["count"], found["tail"]
        parameter = re.match(r"\$(\d+)", count)
        if parameter is None or self.params is None:
            return replace(self, sql=f"{self.sql[: found.start()]} LIMIT ALL", name="")
        at = int(parameter[1]) - 1
        params = (*self.params[:at], replace(self.params[at], value=None), *self.params[at + 1 :])
        return replace(self, sql=f"{self.sql[: found.start()]}{head}{count}{tail}", params=params, name="")

    def messages(self, *, parse: bool, close: bool) -> bytes:
        """The bytes; `parse` unless the server knows the named statement, `close` if it may have another."""
        if self.params is None:
            copied = b"" if self.data is None else encode.copy_data(self.data) + encode.COPY_DONE
            return encode.query(self.sql.encode()) + copied
        sent = self._unit(parse=parse or not self.name, close=close)
        before = self
        for one in self.more:
            # What is alike is prepared once, as drivers do.
            known = one.sql == before.sql and one.oids == before.oids
            before = replace(one, name=before.name if known else "")
            sent += before._unit(parse=not known)
        return sent + encode.SYNC

    @property
    def oids(self) -> list[int]:
        """The declared types of its parameters."""
        return [param.oid for param in self.params or ()]

    def _unit(self, *, parse: bool, close: bool = False) -> bytes:
        assert self.params is not None
        name = self.name.encode()
        sent = b""
        if parse:
            sent += encode.close(b"S", name) if name and close else b""
            sent += encode.parse(name, self.sql.encode(), self.oids)
        if self.describe == "S":
            sent += encode.describe(b"S", name)
        formats, values = [int(one.binary) for one in self.params], [one.value for one in self.params]
        sent += encode.bind(b"", name, formats, values, (int(self.binary),))
        if self.describe == "P":
            sent += encode.describe(b"P", b"")
        sent += encode.execute(b"", self.pieces) * 2 if self.pieces else b""
        return sent + encode.execute(b"")


Case = Sequence[Step]
