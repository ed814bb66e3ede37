"""The rules across several places of the file: names are unique, names exist, placements are complete.

Works on the parsed document, not on the models, so that these errors are reported together with those of single
fields. It skips what does not have the expected shape: the models report that.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

from shardproxy.config.dsn import parse_dsn
from shardproxy.config.model import is_loopback, split_listen
from shardproxy.config.names import parse_identifier, parse_relation
from shardproxy.config.problems import Path, did_you_mean
from shardproxy.config.values import Edge, list_value, range_value

Finding = tuple[Path, str, str]
"""Path, message, remedy."""

UNLISTED = ("error", "reference")
"""The values of `unlisted_tables` other than a shard's name."""

SEPARATE: Final = "Each shard must be a separate database; otherwise rows would count twice."
"""The remedy where two shards are one database, however that is found."""

# placement -> the keys that it needs, the keys that it may have
_PLACEMENTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hash": (("key",), ()),
    "list": (("key", "values"), ("default",)),
    "range": (("key", "bounds"), ("default",)),
    "reference": ((), ()),
    "single": (("shard",), ()),
}
_CHOICES = ("key", "shard", "values", "bounds", "default")

Document = Mapping[str, object]
S = TypeVar("S")
T = TypeVar("T")


def findings(document: Document, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield all errors."""
    databases = list(_tables(document, (), "databases"))
    users = list(_tables(document, (), "users"))
    yield from _addresses(document, bool(document.get("users")))
    yield from _unique(databases, "name", "database")
    yield from _unique(users, "name", "user")
    names = [name for _, database in databases if (name := _text(database, "name")) is not None]
    for path, user in users:
        for place, name in _texts(user, path, "databases"):
            if name not in names:
                yield place, f'there is no database "{name}"', did_you_mean(name, names)
    for path, database in databases:
        yield from _database(database, path, environment)


def _database(database: Document, path: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    shards = list(_tables(database, path, "shards"))
    names = [name for _, shard in shards if (name := _text(shard, "name")) is not None]
    yield from _unique(shards, "name", "shard")
    yield from _same_server(shards, environment)
    for place, shard in shards:
        if _text(shard, "name") in UNLISTED:
            yield (
                (*place, "name"),
                "has a special meaning in unlisted_tables",
                "Choose another name for the shard.",
            )
    unlisted = _text(database, "unlisted_tables")
    if unlisted is not None and unlisted not in (*UNLISTED, *names):
        place = (*path, "unlisted_tables")
        yield place, f'there is no shard "{unlisted}"', did_you_mean(unlisted, (*UNLISTED, *names))
    tables = list(_tables(database, path, "tables"))
    yield from _unique(tables, "name", "table", parse_relation)
    for place, table in tables:
        yield from _table(table, place)
        yield from _shards_exist(table, place, names)


def _addresses(document: Document, has_users: bool) -> Iterator[Finding]:
    server = _table_at(document, "server")
    listen = _text(server, "listen") if server else None
    try:
        address = None if listen is None else split_listen(listen)
    except ValueError:
        return
    if address is None:
        return
    if not has_users and not is_loopback(address.host):
        yield (
            ("server", "listen"),
            "without [[users]] all clients are trusted, so this must be a loopback address",
            "Add a [[users]], or listen on 127.0.0.1 or [::1].",
        )
    admin = _table_at(document, "admin")
    if admin and address.port and _text(admin, "listen") == listen:
        yield ("admin", "listen"), "is the same address as that of [server]", "Choose another port."


def _same_server(shards: list[tuple[Path, Document]], environment: Mapping[str, str]) -> Iterator[Finding]:
    seen: dict[tuple[str, int, str], str] = {}
    for path, shard in shards:
        try:
            dsn = parse_dsn(_text(shard, "dsn") or "", environment)
        except ValueError:
            continue
        place = (dsn.host.lower(), dsn.port, dsn.database)
        if place in seen:
            yield (
                (*path, "dsn"),
                f'is the same database as that of shard "{seen[place]}"',
                SEPARATE,
            )
        seen.setdefault(place, _text(shard, "name") or "?")


def _table(table: Document, path: Path) -> Iterator[Finding]:
    placement = _text(table, "placement")
    if placement is None or placement not in _PLACEMENTS:
        return
    needed, allowed = _PLACEMENTS[placement]
    for key in _CHOICES:
        if key in needed and not table.get(key):
            yield path if key not in table else (*path, key), f"a {placement} table needs `{key}`", _HOW[key]
        elif key in table and key not in needed + allowed:
            owners = " and ".join(name for name, (has, may) in _PLACEMENTS.items() if key in has + may)
            yield (
                (*path, key),
                f"a {placement} table has no `{key}`",
                f"Remove it; it belongs to {owners} tables.",
            )
    columns = [_quietly(parse_identifier, name) or name for _, name in _texts(table, path, "key")]
    for number, column in enumerate(columns):
        if column in columns[:number]:
            yield (*path, "key", number), f'contains the column "{column}" twice', "Remove one of them."
    if placement == "list":
        if len(columns) > 1:
            yield (*path, "key"), "a list table has only one key column", "Use one column, or range or hash placement."
        yield from _list_overlaps(table, path)
    if placement == "range" and columns:
        yield from _bounds(table, path, len(columns))


_HOW = {
    "key": 'Add key = ["COLUMN"].',
    "shard": 'Add shard = "SHARD".',
    "values": 'Add values = [{ shard = "SHARD", in = [...] }, ...].',
    "bounds": 'Add bounds = [{ shard = "SHARD", from = [...], to = [...] }, ...].',
}


def _list_overlaps(table: Document, path: Path) -> Iterator[Finding]:
    seen: set[str | None] = set()
    for place, entry in _tables(table, path, "values"):
        for number, raw in enumerate(_list(entry, "in")):
            try:
                value = list_value(raw)
            except ValueError:
                continue
            if value in seen:
                shown = "NULL" if value is None else repr(value)
                yield (*place, "in", number), f"{shown} already has a shard", "List each value once."
            seen.add(value)


def _bounds(table: Document, path: Path, width: int) -> Iterator[Finding]:
    for place, entry in _tables(table, path, "bounds"):
        for side in ("from", "to"):
            raw = _list(entry, side)
            if raw and len(raw) != width:
                yield (
                    (*place, side),
                    f"has {len(raw)} values, but the key has {width} columns",
                    "Give one value for each key column.",
                )
            values = [_quietly(range_value, value) for value in raw]
            for number, value in enumerate(values[1:], start=1):
                before = values[number - 1]
                if isinstance(before, Edge) and value is not before:
                    # transformPartitionRangeBounds (parse_utilcmd.c) has the same message.
                    yield (
                        (*place, side, number),
                        f"every bound following {before.value} must also be {before.value}",
                        f'Write "{before.value}" here.',
                    )
                    break


def _shards_exist(table: Document, path: Path, names: list[str]) -> Iterator[Finding]:
    places = [(path, key) for key in ("shard", "default") if key in table]
    holders = [(path, table)]
    for key in ("values", "bounds"):
        for place, entry in _tables(table, path, key):
            holders.append((place, entry))
            places.append((place, "shard"))
    by_path = dict(holders)
    for place, key in places:
        name = _text(by_path[place], key)
        if name is not None and name not in names:
            yield (*place, key), f'there is no shard "{name}"', did_you_mean(name, names)


def _unique(
    entries: list[tuple[Path, Document]], key: str, what: str, read: Callable[[str], object] = str
) -> Iterator[Finding]:
    seen: dict[object, Path] = {}
    for path, entry in entries:
        text = _text(entry, key)
        name = None if text is None else _quietly(read, text)
        if name is None:
            continue
        if name in seen:
            yield (*path, key), f'there is another {what} "{text}"', "Each name may be used once."
        seen.setdefault(name, path)


def _quietly(read: Callable[[S], T], value: S) -> T | None:
    try:
        return read(value)
    except ValueError:
        return None


def _text(table: Document, key: str) -> str | None:
    value = table.get(key)
    return value if isinstance(value, str) else None


def _list(table: Document, key: str) -> list[object]:
    value = table.get(key)
    return value if isinstance(value, list) else []


def _texts(table: Document, path: Path, key: str) -> Iterator[tuple[Path, str]]:
    for number, value in enumerate(_list(table, key)):
        if isinstance(value, str):
            yield (*path, key, number), value


def _table_at(table: Document, key: str) -> Document | None:
    value = table.get(key)
    return value if isinstance(value, dict) else None


def _tables(table: Document, path: Path, key: str) -> Iterator[tuple[Path, Document]]:
    for number, value in enumerate(_list(table, key)):
        if isinstance(value, dict):
            yield (*path, key, number), value
