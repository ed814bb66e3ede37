"""What all sessions of one configured database share: the shards' addresses, the tables, and how it commits."""

from collections.abc import Mapping, Sequence

from shardproxy.backend.connection import Address, Connection
from shardproxy.commit import one_phase
from shardproxy.config import Database as DatabaseConfig
from shardproxy.config import Table
from shardproxy.errors import PgError

PARAMETER_SETS = 100
"""Different sets of start-up parameters whose ParameterStatus are remembered; applications use a handful."""


class Database:
    """One database of the configuration."""

    def __init__(self, config: DatabaseConfig) -> None:
        self.config = config
        self.addresses = tuple(
            Address(
                name=shard.name,
                host=shard.dsn.host,
                port=shard.dsn.port,
                user=shard.dsn.user,
                database=shard.dsn.database,
                password=shard.dsn.password.get_secret_value() if shard.dsn.password else None,
                connect_timeout=config.connect_timeout,
                stall_timeout=config.stall_timeout,
            )
            for shard in config.shards
        )
        self.shard_numbers = {shard.name: number for number, shard in enumerate(config.shards)}
        self.generation = 0
        self._tables = {(table.schema, table.relation): table for table in config.tables}
        self._parameters: dict[frozenset[tuple[str, str]], dict[str, str]] = {}

    def table(self, schema: str, relation: str) -> Table | None:
        """Return a table's configuration, None if it is not listed."""
        return self._tables.get((schema, relation))

    def definitions_changed(self) -> None:
        """A statement has changed a definition: what sessions know of tables may be wrong."""
        self.generation += 1

    def known_parameters(self, settings: Mapping[str, str]) -> dict[str, str] | None:
        """Return what a shard reported to an earlier session with these start-up parameters."""
        return self._parameters.get(_key(settings))

    def remember_parameters(self, settings: Mapping[str, str], reported: dict[str, str]) -> None:
        """Keep what a shard reports to sessions with these start-up parameters."""
        if len(self._parameters) < PARAMETER_SETS:
            self._parameters[_key(settings)] = reported

    async def commit(self, participants: Sequence[Connection]) -> list[PgError]:
        """Commit a transaction of several shards; return warnings. Raises with nothing committed."""
        await one_phase.commit(participants)
        return []


def _key(settings: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in settings.items() if name != "application_name")
