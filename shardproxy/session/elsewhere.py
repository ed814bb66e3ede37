"""Whether a write of a reference table has written other tables, too: the shard's own counts tell."""

from dataclasses import dataclass

from shardproxy.shard.connection import Connection
from shardproxy.shard.written import others_written_sql


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a session had written in other tables than one, before a write that might write there, too."""

    schema: str
    name: str
    before: bytes
    put: int
    gone: int

    @classmethod
    async def of(cls, first: Connection, schema: str, name: str) -> "Elsewhere":
        """Ask the shard that is to do the write."""
        return cls(schema, name, *await cls._written(first, schema, name))

    async def changed(self, first: Connection, rows: int | None = None, verb: str = "") -> bool:
        """Whether the shard has written there since, or more in the table itself than `rows` by a statement."""
        before, put, gone = await self._written(first, self.schema, self.name)
        if before != self.before:
            return True
        if rows is None:
            return False
        return put - self.put > (0 if verb == "DELETE" else rows) or gone - self.gone > (
            0 if verb == "INSERT" else rows
        )

    @staticmethod
    async def _written(first: Connection, schema: str, name: str) -> tuple[bytes, int, int]:
        written, put, gone = await first.fetch_row(others_written_sql(schema, name), 3)
        return written or b"", int(put or 0), int(gone or 0)
