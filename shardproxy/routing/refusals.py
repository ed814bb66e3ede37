"""The refusals of routing: what cannot be right across shards, each with the way out."""

from shardproxy.errors import PgError
from shardproxy.routing.plan import Rows
from shardproxy.routing.resolved import Resolved
from shardproxy.sql import SCHEMA
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE

HINT_KEY = "Bind every key column in the WHERE clause with = or IN and constants or parameters of one shard."


def refused(message: str, hint: str, detail: str | None = None) -> PgError:
    """Build the error of what is not supported over several shards."""
    return PgError(FEATURE_NOT_SUPPORTED, message, hint=hint, detail=detail)


def key_of(table: Resolved) -> str:
    """The key's columns for people."""
    return ", ".join(column.name for column in table.key)


def unlisted(table: Resolved) -> PgError:
    """A table that the configuration does not know."""
    return refused(
        f'table "{table}" is not listed in the configuration of the proxy',
        f'Add [[databases.tables]] with name = "{table}" and its placement, or set unlisted_tables to'
        ' "reference" or to the name of a shard.',
    )


def derived(table: Resolved) -> PgError:
    """A relation that shows rows of others, which may lie on other shards than it does."""
    return refused(
        f'"{table}" is a view, partition or child of other tables, and is not supported by itself',
        "Name those tables in the statement instead.",
    )


def no_snapshot(what: str) -> PgError:
    """A snapshot that other sessions are to share: it would be that of one shard."""
    return refused(
        f"{what} is not supported over several shards",
        "Use one session: pg_dump without --jobs. Or connect to each shard directly.",
        "Each shard has snapshots of its own, and none is of all shards.",
    )


def own_schema(
    detail: str = "It holds what the proxy needs to commit on all shards or none, and the place of each shard.",
) -> PgError:
    """The proxy's own tables."""
    return PgError(
        INSUFFICIENT_PRIVILEGE,
        f"permission denied for schema {SCHEMA}",
        detail=detail,
        hint="Connect to a shard directly to look at it.",
    )


def unbound(verb: str, table: Resolved) -> PgError:
    """UPDATE or DELETE of a sharded table that is not bound to one shard."""
    return refused(
        f'{verb} of sharded table "{table}" is not bound to one shard',
        f"{HINT_KEY} The key of this table is ({key_of(table)}).",
    )


def read_elsewhere(verb: str, table: Resolved) -> PgError:
    """A statement that writes one table reads another one that does not lie where the first does."""
    return refused(
        f'{verb} reads "{table}", which does not lie wholly on the shards that are written',
        "Read the rows first and send them as constants, or COPY them out and in.",
    )


def copies_differ(
    table: Resolved | str,
    why: str,
    hint: str = "Give every column a constant or a parameter, computed by the client or by a SELECT before.",
) -> PgError:
    """A write that each shard would carry out differently, on a table that must be the same on all."""
    return refused(f'{why} in a write of reference table "{table}" would make its copies differ', hint)


def not_followed(rows: Rows, why: str) -> PgError:
    """A write of a reference table of which more came than its rows."""
    return refused(
        f'{why} in a write of reference table "{rows.schema}.{rows.name}" would make copies differ',
        "Let the application do what it does; or keep it from changing rows again that are written by value, with "
        "GRANT SET ON PARAMETER session_replication_role to the role of the proxy.",
        "What it writes besides would be written by each shard for itself.",
    )


def identity_reset(column: str, table: Resolved) -> PgError:
    """An UPDATE of an identity column to its next value."""
    return refused(
        f'setting column "{column}" of reference table "{table}" to DEFAULT is not supported',
        "DELETE the row and INSERT it again.",
        "Other shards cannot be given the value: the column is GENERATED ALWAYS AS IDENTITY.",
    )


def old_named_otherwise(table: Resolved) -> PgError:
    """A RETURNING in which "old" is not the old row."""
    return refused(
        f'RETURNING of reference table "{table}" beside a relation named "old" is not supported',
        "Give the relation another name, or write RETURNING WITH (OLD AS ...).",
        "The other shards get the rows by the key that they had before.",
    )


def only_at_its_end(rows: Rows, constraint: str) -> PgError:
    """A write whose rows satisfy a constraint together, and not one after the other."""
    return refused(
        f'a write of reference table "{rows.schema}.{rows.name}" that satisfies constraint "{constraint}" at its end '
        "only is not supported",
        "Make the constraint DEFERRABLE, and SET CONSTRAINTS ALL DEFERRED before. Or write one row at a time.",
        "The other shards get the rows one after the other, and it would be violated in between.",
    )


def refers_to_sharded(constraint: str, table: str) -> PgError:
    """A row of a reference table that refers to one of a sharded table."""
    return refused(
        f'a row of reference table "{table}" that refers to a sharded table by foreign key "{constraint}" is not '
        "supported",
        "Drop the foreign key, or place the table by the same key as the one that it refers to.",
        "Each shard has a copy of the row, and one shard alone has the row that it refers to.",
    )


def moves_referenced(rows: Rows) -> PgError:
    """A trigger that changes what foreign keys refer to."""
    return refused(
        f'trigger "{rows.triggers[0]}" that changes what foreign keys refer to in reference table '
        f'"{rows.schema}.{rows.name}" is not supported',
        f"Let the statement set {', '.join(rows.kept)}, to what the trigger would set it to.",
        "The other shards store what came of the trigger without firing any, and foreign keys would not act there.",
    )


def check_gid(name: str) -> None:
    """Refuse a prepared transaction that has, or would have, a name of the proxy's own."""
    if name.startswith(f"{SCHEMA}_"):
        raise PgError(
            INSUFFICIENT_PRIVILEGE,
            f'the prepared transaction "{name}" is shardproxy\'s own, or would be taken for it',
            hint=f"Choose an identifier that does not begin with {SCHEMA}_.",
        )
