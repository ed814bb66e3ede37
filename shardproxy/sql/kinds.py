"""Which utility statements are what, by the name of their node, and the few nodes that need a closer look."""

from typing import Final

from shardproxy.sql.parse import Node

PREPARED_TRANSACTIONS: Final = {
    "TRANS_STMT_PREPARE": "PREPARE TRANSACTION",
    "TRANS_STMT_COMMIT_PREPARED": "COMMIT PREPARED",
    "TRANS_STMT_ROLLBACK_PREPARED": "ROLLBACK PREPARED",
}
"""Kinds of a TransactionStmt, to their tags."""

# Utility statements that leave what is known of relations as it is.
NOT_DEFINING: Final = {
    "CheckPointStmt",
    "ClusterStmt",
    "CommentStmt",
    "ConstraintsSetStmt",
    "LoadStmt",
    "LockStmt",
    "RefreshMatViewStmt",
    "ReindexStmt",
    "TruncateStmt",
    "VacuumStmt",
}

# What has an effect in a transaction block only, with its tag.
IN_BLOCKS: Final = {"LockStmt": "LOCK TABLE", "ConstraintsSetStmt": "SET CONSTRAINTS"}

TRUNCATE: Final = "TRUNCATE TABLE"

# What is told from others by its tag.
TAGGED: Final = {**IN_BLOCKS, "TruncateStmt": TRUNCATE}

# Immutable in every supported version (pg_proc.provolatile = 'i') for all argument types. Any other function
# may give another value on each shard.
# fmt: off
IMMUTABLE: Final = frozenset({
    "abs", "ascii", "bit_length", "btrim", "ceil", "ceiling", "char_length", "character_length", "chr",
    "decode", "div", "encode", "floor", "gcd", "initcap", "lcm", "left", "length", "lower", "lpad", "ltrim",
    "md5", "mod", "octet_length", "overlay", "position", "power", "repeat", "replace", "reverse", "right",
    "round", "rpad", "rtrim", "sha224", "sha256", "sha384", "sha512", "sign", "split_part", "sqrt",
    "starts_with", "strpos", "substr", "substring", "translate", "trunc", "upper",
})
# fmt: on

OWNED: Final = {"DropOwnedStmt", "ReassignOwnedStmt"}

# DROP names these as lists of strings, not as relations.
DROPPED_RELATIONS: Final = {
    "OBJECT_FOREIGN_TABLE",
    "OBJECT_MATVIEW",
    "OBJECT_SEQUENCE",
    "OBJECT_TABLE",
    "OBJECT_VIEW",
}

# What calls PreventInTransactionBlock in PostgreSQL's src/backend without a condition.
_ALONE: Final = {
    "AlterSystemStmt",
    "CreateTableSpaceStmt",
    "CreatedbStmt",
    "DropTableSpaceStmt",
    "DropdbStmt",
}
# Where a subscription has a replication slot, which is the default, it cannot be in a transaction block.
_SUBSCRIPTIONS: Final = {"AlterSubscriptionStmt", "CreateSubscriptionStmt", "DropSubscriptionStmt"}
_WHOLE_REINDEX: Final = {"REINDEX_OBJECT_SCHEMA", "REINDEX_OBJECT_SYSTEM", "REINDEX_OBJECT_DATABASE"}


def stands_alone(name: str, node: Node) -> bool:
    """Tell whether PostgreSQL refuses a utility statement in a transaction block."""
    return (
        name in _ALONE
        or name in _SUBSCRIPTIONS
        or (name == "VacuumStmt" and node.get("is_vacuumcmd", False))
        or (name in {"IndexStmt", "DropStmt"} and node.get("concurrent", False))
        or (name == "ReindexStmt" and node["kind"] in _WHOLE_REINDEX)
        or (name == "ReindexStmt" and is_on(node, "params", "concurrently"))
        or (name == "ClusterStmt" and "relation" not in node)
        or (name == "AlterDatabaseStmt" and "tablespace" in option_names(node, "options"))
        or (name == "AlterTableStmt" and any(map(_detaches_concurrently, node.get("cmds", ()))))
    )


def _detaches_concurrently(command: Node) -> bool:
    node = command["AlterTableCmd"]
    return node["subtype"] == "AT_DetachPartition" and bool(node["def"]["PartitionCmd"].get("concurrent"))


def option_names(node: Node, key: str) -> list[str]:
    """The names of a list of DefElem."""
    return [option["DefElem"]["defname"] for option in node.get(key, ())]


def is_on(node: Node, key: str, name: str) -> bool:
    """Tell whether the last option of that name is on, as defGetBoolean reads it; a wrong value is on."""
    state = False
    for option in node.get(key, ()):
        if option["DefElem"]["defname"] == name:
            state = _argument(option["DefElem"].get("arg")) not in {"false", "off", "0"}
    return state


def _argument(node: Node | None) -> str:
    if node is None:
        return "true"
    if "Integer" in node:
        return str(node["Integer"].get("ival", 0))
    if "Boolean" in node:
        return "true" if node["Boolean"].get("boolval") else "false"
    return str(node.get("String", {}).get("sval", "")).lower()
