"""Where and as whom a shard is reached, for clients' statements and for the proxy's own questions alike. No I/O."""

from dataclasses import dataclass

from shardproxy.config import Database


@dataclass(frozen=True, slots=True)
class Address:
    """Where and as whom to reach a shard. The password is never shown."""

    name: str
    host: str
    port: int
    user: str
    database: str
    password: str | None = None
    connect_timeout: float = 10.0
    stall_timeout: float = 30.0
    """Seconds without an answer after which the server is asked whether it is alive."""

    def __repr__(self) -> str:
        return f"<shard {self.name} {self.user}@{self.host}:{self.port}/{self.database}>"


def addresses_of(database: Database) -> tuple[Address, ...]:
    """Return the addresses of a configured database's shards, in their order."""
    return tuple(
        Address(
            name=shard.name,
            host=shard.dsn.host,
            port=shard.dsn.port,
            user=shard.dsn.user,
            database=shard.dsn.database,
            password=shard.dsn.password.get_secret_value() if shard.dsn.password else None,
            connect_timeout=database.connect_timeout,
            stall_timeout=database.stall_timeout,
        )
        for shard in database.shards
    )
