"""Where the objects of a DDL statement are, or are to be made: by the configuration, and by the shards' catalogs.

A table that the configuration lists is where that says, an unlisted one where `unlisted_tables` says. What belongs to
others goes with them: an index with its table, an owned sequence with its column's, a partition or child with its
parent, a view with what it reads, extended statistics with their table. Whatever exists on one shard only is there.

Names are looked up as `Resolver` does it, and nothing is kept: DDL is rare, and what it rests on must be true now.
"""

from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import replace
from typing import Final

from shardproxy.config import Table
from shardproxy.routing.identifiers import ascii_name
from shardproxy.routing.resolved import NOWHERE, OWN, Place
from shardproxy.session.database import SHARDED, Database
from shardproxy.session.paths import in_front
from shardproxy.session.shards import Shards
from shardproxy.shard import catalog
from shardproxy.shard.connection import Connection
from shardproxy.shard.objects import Asked, Found, columns_sql, heirs_sql, objects_sql, parse_columns, parse_objects
from shardproxy.sql import SCHEMA, CreateAs, Object, Statement, Utility

CATALOGS: Final = frozenset({"pg_catalog", "information_schema", "pg_toast"})
TEMPORARY: Final = "pg_temp"
"""What the names of the schemas with temporary relations begin with."""

TABLES: Final = frozenset({"r", "p", "f", "m"})
"""The relkinds that may be listed, and materialized views, which have rows of their own as well."""

COMPOSITE_TYPE: Final = "c"

NEW: Final = frozenset({"make", "within", "view", "name"})
"""The roles of what is not there yet."""


class Locator:
    """One session's view of where objects are."""

    def __init__(self, database: Database, shards: Shards, reader: Callable[[], Awaitable[Connection]]) -> None:
        """`reader` gives the connection on which the session's names are looked up."""
        self._database = database
        self._shards = shards
        self._reader = reader

    async def places(self, statement: Statement) -> dict[Object, Place]:
        """Return the place of each object of a statement; what does not exist anywhere has none."""
        if not isinstance(statement, Utility | CreateAs) or not statement.objects:
            return {}
        if len(self._shards.addresses) == 1:
            return {}
        if any(one.kind == "schema" for one in statement.objects):
            return await self._renamed_schema(*statement.objects)
        looked = [one for one in statement.objects if one.role not in NEW]
        schema, found = await self._look(looked)
        places = {one: self._existing(one, *there) for one, there in found.items()}
        for one in statement.objects:
            if one.role == "name":
                self._named(one, statement.objects, found, places)
            elif one.role in NEW:
                made_in = one.schema or schema or ""
                places[one] = OWN if made_in == SCHEMA else self._made(made_in, one.name)
        await self._follow_existence(found, places)
        if isinstance(statement, Utility):
            await self._keys(statement, found, places)
        return places

    # The configuration.

    def configured(self, schema: str, name: str) -> Place:
        """Return where a table of this name is by the configuration."""
        table = self._database.table(schema, name)
        if table is not None:
            shard = self._database.shard_of(table)
            group = _group(table, shard)
            return Place(table.placement, shard, group, group, listed=True, key=tuple(table.key))
        setting = self._database.config.unlisted_tables
        shard = self._database.unlisted_shard
        if shard is not None:
            return Place("single", shard, ("single", shard), ("single", shard))
        if setting == "reference":
            return Place("reference", None, ("reference",), ("reference",))
        return Place("unlisted", None, NOWHERE, NOWHERE)

    def _made(self, schema: str, name: str) -> Place:
        """Return where a new relation is: on the home shard, if the search_path begins with pg_temp."""
        if schema.startswith(TEMPORARY):
            return Place("temporary", self._shards.home)
        return self.configured(schema, name)

    # The catalogs.

    async def _look(self, objects: Sequence[Object]) -> tuple[str | None, dict[Object, tuple[Found, int]]]:
        """Return the schema in which new names are made, and what exists, with the shard that has shown it."""
        connection = await self._reader()
        home = self._shards.home
        # There is always something to ask, if only for the schema.
        schema, answers = await self._ask(connection, objects)
        found = {one: (answer, home) for one, answer in zip(objects, answers, strict=True) if answer is not None}
        for one in objects:
            if one in found and one.kind == "relation" and one.schema is None:
                found[one] = await self._in_front(one, found[one], connection) or found[one]
        for shard in self._others(home):
            missing = [one for one in objects if one not in found]
            if not missing:
                break
            [other] = await self._shards.join([shard])
            _, answers = await self._ask(other, missing)
            found |= {one: (answer, shard) for one, answer in zip(missing, answers, strict=True) if answer is not None}
        return schema, found

    async def _in_front(
        self, one: Object, known: tuple[Found, int], connection: Connection
    ) -> tuple[Found, int] | None:
        """Return what hides a relation, and is on another shard than home."""
        found, home = known
        shards = [shard for shard in self._database.single_shards(None, one.name) if shard != home]
        if not shards:
            return None
        [schemas] = await connection.fetch_row(f"SELECT {catalog.SEARCHED}", 1)

        async def look(shard: int) -> Found | None:
            [other] = await self._shards.join([shard])
            return (await self._ask(other, [one]))[1][0]

        return await in_front(catalog.parse_searched(catalog.text(schemas)), found.schema, shards, look)

    def _others(self, *shards: int) -> list[int]:
        return [shard for shard in self._shards.everyone if shard not in shards]

    @staticmethod
    async def _ask(connection: Connection, objects: Sequence[Object]) -> tuple[str | None, list[Found | None]]:
        asked: list[Asked] = [(one.kind, one.schema, one.name) for one in objects if one.kind != "schema"]
        answer = await catalog.ask(connection, objects_sql(asked or [("relation", "pg_catalog", "pg_class")]))
        schema, answers = parse_objects(answer)
        return schema, answers if asked else []

    def _existing(self, one: Object, found: Found, shard: int) -> Place:
        if one.kind == "publication":
            return Place("publication")
        if found.schema.startswith(TEMPORARY):
            return Place("temporary", shard)
        if found.schema in CATALOGS:
            return Place("catalog")
        if found.schema == SCHEMA:
            return OWN
        if found.kind == COMPOSITE_TYPE:
            return Place("type")
        own = self.configured(found.schema, found.name)
        if own.listed and found.kind in TABLES:
            return own
        if any(root.schema.startswith(TEMPORARY) for root in found.roots):
            return Place("temporary", shard)
        roots = [(root, self.configured(root.schema, root.name))
                 for root in found.roots if root.schema not in CATALOGS]  # fmt: skip
        roots = [(root, place) for root, place in roots if root.last or (place.listed and root.kind in TABLES)]
        if not roots:
            return own
        places = [place for _, place in roots]
        first = next((place for place in places if place.shard is not None), None)
        first = first or next((place for place in places if place.sharded), places[0])
        return replace(first, own=own.group, listed=own.listed, derived=True)

    def _named(
        self,
        one: Object,
        objects: Sequence[Object],
        found: dict[Object, tuple[Found, int]],
        places: dict[Object, Place],
    ) -> None:
        """The name that a table gets."""
        subject = found.get(next(other for other in objects if other.role == "change"))
        if subject is not None and subject[0].kind in TABLES and not subject[0].schema.startswith(TEMPORARY):
            places[one] = self.configured(one.schema or subject[0].schema, one.name)

    async def _renamed_schema(self, old: Object, new: Object) -> dict[Object, Place]:
        """Return the placements of a schema's tables, before and after all of them get another name with it."""
        names = {table.relation for table in self._database.config.tables if table.schema in {old.name, new.name}}
        _, found = await self._look([Object("relation", "use", old.name, name) for name in sorted(names)])
        tables = [one.name for one, (relation, _) in found.items() if relation.kind in TABLES]
        before, after = (
            tuple(self.configured(schema, name).group for name in tables) for schema in (old.name, new.name)
        )
        return {old: Place("schema", group=before), new: Place("schema", group=after)}

    # Existence.

    async def _follow_existence(self, found: dict[Object, tuple[Found, int]], places: dict[Object, Place]) -> None:
        """Correct the places of what no entry of the configuration tells, or what several of a statement differ in."""
        changed = [one for one in places if one.role in {"change", "replaced"}]
        shards = {places[one].shard for one in changed}
        for one in changed:
            place = places[one]
            if place.kind in {"temporary", "catalog", "type"}:
                continue
            if place.shard is None and place.kind in {"publication", "unlisted", "reference"} and not place.listed:
                holders = await self._holders(one)
                if len(holders) == 1:
                    places[one] = replace(place, shard=holders[0])
            elif (
                place.shard is not None
                and len(shards) > 1
                and len(await self._holders(one)) == len(self._shards.addresses)
            ):
                # All of them may go to all shards, if these have all of them.
                places[one] = replace(place, shard=None)

    async def _holders(self, one: Object) -> list[int]:
        """Return the shards that have an object."""
        everyone = self._shards.everyone
        connections = await self._shards.join(everyone)
        holders = []
        for shard, connection in zip(everyone, connections, strict=True):
            _, [answer] = await self._ask(connection, [one])
            if answer is not None:
                holders.append(shard)
        return holders

    # Keys.

    async def _keys(
        self, statement: Utility, found: dict[Object, tuple[Found, int]], places: dict[Object, Place]
    ) -> None:
        """Find the key columns that a table lacks, if the statement would let another column have such a name.

        A column that is renamed, and has its old name again, is no other: its table and number tell.
        """
        rename = statement.column_rename
        rewritten = {rewrite.column for rewrite in statement.rewrites}
        added = {rewrite.column for rewrite in statement.rewrites if rewrite.what == "add"}
        names = added if rename is None else {rename.old, rename.new}
        subject = next((one for one in found if one.role == "change"), None)
        if subject is not None and (names or rewritten):
            places[subject] = replace(
                places[subject], heir=await self._heir(*found[subject], places[subject], names | rewritten)
            )
        if subject is None or names.isdisjoint(places[subject].key) or not places[subject].sharded:
            return
        table, shard = found[subject]
        [connection] = await self._shards.join([shard])
        answer = await catalog.ask(connection, columns_sql(table.oid))
        columns = parse_columns(answer)
        known = self._database.keys_renamed.setdefault((shard, table.oid), {})
        known |= {name: columns[name] for name in places[subject].key if name in columns}
        lacks = {name for name in places[subject].key if name not in columns}
        if rename is not None and known.get(rename.new, 0) == columns.get(rename.old):
            lacks.discard(rename.new)
        if not lacks.isdisjoint(names) and await self._is_empty(table):
            lacks.clear()
        places[subject] = replace(places[subject], lacks=frozenset(lacks))

    async def _heir(self, found: Found, shard: int, place: Place, columns: Set[str]) -> str | None:
        """Return a table whose key one of these columns is, and that gets what is done to them."""
        [connection] = await self._shards.join([shard])
        answer = await catalog.ask(connection, heirs_sql(found.oid))
        for schema, name in catalog.parse_relatives(answer):
            heir = self.configured(schema, name)
            if heir.sharded and heir.group != place.group and not columns.isdisjoint(heir.key):
                return f"{schema}.{name}"
        return None

    async def _is_empty(self, table: Found) -> bool:
        rows = f"SELECT EXISTS (SELECT FROM {ascii_name(table.schema, table.name)})"
        connections = await self._shards.join(self._shards.everyone)
        return all([await connection.fetch_row(rows, 1) == [b"f"] for connection in connections])


def _group(table: Table, shard: int | None) -> tuple[object, ...]:
    if table.placement in SHARDED:
        return (table.placement, table.key, table.values, table.bounds, table.default)
    return ("reference",) if shard is None else ("single", shard)
