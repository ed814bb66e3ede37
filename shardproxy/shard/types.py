"""The types of the user's own on each shard, asked for when one is first met, and again when one is not known.

All sessions of a database share them. A type keeps its OID as long as it lives, whatever it is called.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard import control
from shardproxy.shard.address import Address
from shardproxy.sqlstate import INTERNAL_ERROR, UNDEFINED_OBJECT
from shardproxy.wire.usertypes import FIRST_NORMAL, TypeMap, UnknownOidError, UserType, is_own

TIMEOUT: Final = 10.0
"""Seconds for the question."""

# An array is called by its element: two shards may have found other names for it. pg_range has rngmultitypid from 14.
SQL: Final = f"""SELECT t.oid::pg_catalog.int8, n.nspname::pg_catalog.text,
    CASE WHEN e.oid IS NULL THEN t.typname::pg_catalog.text ELSE pg_catalog.concat(e.typname, '[]') END,
    CASE WHEN t.typtype IN ('c', 'd', 'r', 'm') THEN t.typtype::pg_catalog.text
      WHEN t.typelem <> 0 AND t.typsend = 'pg_catalog.array_send'::pg_catalog.regproc THEN 'a' ELSE 'o' END,
    CASE t.typtype WHEN 'd' THEN t.typbasetype
      WHEN 'r' THEN (SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid)
      WHEN 'm' THEN (SELECT r.rngtypid FROM pg_catalog.pg_range AS r
        WHERE (pg_catalog.to_jsonb(r) ->> 'rngmultitypid') = t.oid::pg_catalog.text)
      ELSE t.typelem END::pg_catalog.int8
  FROM pg_catalog.pg_type AS t
  JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid
  WHERE t.oid >= {FIRST_NORMAL} AND n.nspname !~ '^pg_(temp|toast)'"""
"""Of each type of the user's: OID, schema, name, kind, and what it is of."""


class ShardTypes:
    """One shard's types, for its connections."""

    def __init__(self, types: "Types", shard: int) -> None:
        self._types = types
        self.shard = shard
        self.map: TypeMap | None = None
        """None if they have not been asked for."""
        self.fresh = False
        """Whether no definition has changed since."""

    async def know(self, oids: Iterable[int], *, canonical: bool = False) -> TypeMap:
        """Return the map when it has these types; PgError 42704 if one is on some shards only.

        They are OIDs of this shard's, or canonical ones.
        """
        asked = list(oids)
        for again in (False, True):
            made = self.map if self.fresh else None
            if made is None or again:
                made = await self._types.ask(self.shard)
            try:
                for oid in asked:
                    (made.theirs if canonical else made.canonical)(oid)
            except UnknownOidError as error:
                if again:
                    raise self.missing(made, error.oid, canonical=canonical) from error
            else:
                return made
        raise AssertionError

    def missing(self, made: TypeMap, oid: int, *, canonical: bool) -> PgError:
        """The error of a type that one side lacks."""
        there, here = self._types.name(self.shard), self._types.name(self._types.canonical)
        lacking = there if canonical else here
        name = made.name(oid, canonical=canonical)
        what = f"type with OID {oid}" if name is None else f'type "{name}"'
        return PgError(
            UNDEFINED_OBJECT,
            f'{what} does not exist on shard "{lacking}"',
            detail="A type is known by its name: all shards must have it.",
            hint="Create it through the proxy. If that is done in this transaction, commit first.",
        )


class Types:
    """The types of a database's shards; those of the `canonical` shard are what clients know."""

    def __init__(self, addresses: Sequence[Address], canonical: int) -> None:
        self.canonical = canonical
        self._addresses = addresses
        self._shards = {shard: ShardTypes(self, shard) for shard in range(len(addresses)) if shard != canonical}
        self._asking: dict[int, asyncio.Future[TypeMap]] = {}

    def of(self, shard: int) -> ShardTypes | None:
        """Return a shard's types, None for the canonical ones."""
        return self._shards.get(shard)

    def others(self) -> Iterable[ShardTypes]:
        """Return the types of all shards but the canonical one."""
        return self._shards.values()

    def name(self, shard: int) -> str:
        """Return a shard's name."""
        return self._addresses[shard].name

    def forget(self) -> None:
        """A definition has changed."""
        for one in self._shards.values():
            one.fresh = False
        self._asking.clear()

    async def know(self, oids: Iterable[int], *, defined: bool = False) -> None:
        """See to it that all shards know these canonical types; PgError 42704.

        PostgreSQL's own error if there is no such type at all, unless it may have been `defined` in the transaction.
        """
        own = [oid for oid in oids if is_own(oid)]
        if not own:
            return
        try:
            await each(one.know(own, canonical=True) for one in self._shards.values())
        except PgError as error:
            known = next((one.map for one in self._shards.values() if one.map is not None), None)
            if error.sqlstate == UNDEFINED_OBJECT and known is not None and not defined:
                for oid in own:
                    if known.name(oid, canonical=True) is None:
                        raise PgError(INTERNAL_ERROR, f"cache lookup failed for type {oid}") from error
            raise

    async def ask(self, shard: int) -> TypeMap:
        """Ask for a shard's types and the canonical ones. Those who ask at the same time ask together."""
        asking = self._asking.get(shard)
        if asking is None:
            asking = self._asking[shard] = asyncio.ensure_future(self._ask(shard))
            asking.add_done_callback(lambda done: self._asked(shard, done))
        return await asyncio.shield(asking)

    def _asked(self, shard: int, done: asyncio.Future[TypeMap]) -> None:
        if self._asking.get(shard) is done:
            # Not if a definition has changed meanwhile.
            del self._asking[shard]
            if not done.cancelled() and done.exception() is None:
                self._shards[shard].map, self._shards[shard].fresh = done.result(), True

    async def _ask(self, shard: int) -> TypeMap:
        canonical, theirs = await each(self._types(one) for one in (self.canonical, shard))
        return TypeMap(canonical, theirs)

    async def _types(self, shard: int) -> dict[int, UserType]:
        async with control.session(self._addresses[shard], TIMEOUT) as connection:
            rows = await connection.fetch(SQL)
        return {oid: UserType((space, name), kind, of) for oid, space, name, kind, of in rows}
