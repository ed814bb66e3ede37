"""The system catalogs without the proxy's own schema, as a SELECT of them is to see them.

Each relation of the catalog in FROM that tells of schemas, or of what is in them, is replaced by a sub-select that
leaves that schema's rows out, or the proxy's own prepared statements and portals; PostgreSQL's planner takes it apart
again. So pg_dump, `\\d` of psql and the reflection of libraries do not see it. A statement in which a sub-select could
mean something else is left as it is.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shardproxy.sql.own import SCHEMA
from shardproxy.sql.parse import Node, parts

_OWN_OID: Final = (
    "ALL (ARRAY(SELECT own.oid FROM pg_catalog.pg_namespace AS own "
    f"WHERE own.nspname OPERATOR(pg_catalog.=) '{SCHEMA}'))"
)
_BY_NAME: Final = {
    "pg_namespace": "nspname",
    "pg_tables": "schemaname",
    "pg_indexes": "schemaname",
}
_BY_OID: Final = {
    "pg_class": "relnamespace",
    "pg_type": "typnamespace",
    "pg_constraint": "connamespace",
}
_BY_SCHEMA: Final = {
    "schemata": "schema_name",
    "tables": "table_schema",
    "columns": "table_schema",
    "table_constraints": "table_schema",
    "key_column_usage": "table_schema",
}
"""Views of information_schema, always named with their schema."""

_OWN_NAMES: Final = frozenset({"pg_prepared_statements", "pg_cursors"})
"""Views whose `name` may be one of the proxy's own."""

_NAMES: Final = _OWN_NAMES | _BY_NAME.keys() | _BY_OID.keys() | _BY_SCHEMA.keys()

# What a sub-select has not, or has at another place.
_UNSEEN: Final = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax"})
_UNFIT: Final = frozenset({"lockingClause", "RangeTableSample", "isNatural", "intoClause"})

_TABLE: Final = re.compile(r"\btable(?:\s|--[^\n]*\n|/\*(?:(?!\*/).)*\*/)*$", re.IGNORECASE | re.DOTALL)
"""What is in front of the relation of TABLE."""


@dataclass(frozen=True, slots=True)
class Visible:
    """A statement's text with the replacements: where, how many characters of the original, and how many now."""

    text: str
    splices: tuple[tuple[int, int, int], ...]

    def original(self, position: int) -> int:
        """Return where in the original text a position (from 1) of this one is, the relation's if within a splice."""
        for start, before, after in self.splices:
            if position <= start:
                break
            if position <= start + after:
                return start + 1
            position -= after - before
        return position


def visible(text: str, location: int, node: Node) -> Visible | None:
    """Return the text of a SELECT as it is to be run; None if that is the text itself."""
    if "pg_" not in text.lower() and "information_schema" not in text.lower():
        return None
    relations: list[Node] = []
    long_names: list[Node] = []
    whole: set[int] = set()
    columns: set[str] = set()
    aliases: set[str] = set()
    star = False
    for part in parts(node):
        if not isinstance(part, dict):
            continue
        if not _UNFIT.isdisjoint(part) or part.get("ctename") in _NAMES:
            return None
        if "groupClause" in part and _groups_by_oid(part):
            return None
        if _is_table(part):
            whole.add(part["fromClause"][0]["RangeVar"].get("location", 0))
        aliases.add(part.get("alias", {}).get("aliasname", ""))
        if part.get("RangeVar", {}).get("inh"):
            relations.append(part["RangeVar"])
        if "ColumnRef" in part:
            fields = part["ColumnRef"]["fields"]
            if len(fields) > 2:
                long_names.append(part["ColumnRef"])
            star = star or "A_Star" in fields[-1]
            columns.add(fields[-1].get("String", {}).get("sval", ""))
    if columns & _UNSEEN or (star and "tableoid" in columns):
        return None
    pieces = _pieces(text, location, relations, whole, "tableoid, *" if "tableoid" in columns else "*")
    shortened = _shortened(text, location, long_names)
    if not pieces or shortened is None or (shortened and aliases & _NAMES):
        return None
    return spliced(text, pieces + shortened)


def spliced(text: str, pieces: Iterable[tuple[int, int, str]]) -> Visible:
    """Return a text with pieces in place of what stands from one character to another."""
    made, done, splices = "", 0, []
    for start, end, piece in sorted(pieces):
        made += text[done:start] + piece
        splices.append((start, end - start, len(piece)))
        done = end
    return Visible(made + text[done:], tuple(splices))


def _is_table(part: Node) -> bool:
    """Whether this is a SelectStmt that TABLE has made: its star is nowhere in the text."""
    targets = part.get("targetList", ())
    return (
        len(targets) == 1
        and targets[0].get("ResTarget", {}).get("location") == -1
        and "RangeVar" in part.get("fromClause", [{}])[0]
    )


def _groups_by_oid(select: Node) -> bool:
    """Whether a SelectStmt may group by a catalog's primary key, which lets its other columns stand alone."""
    targets = [target["ResTarget"] for target in select.get("targetList", ())]
    by_oid = [target for target in targets if _is_oid(target.get("val", {}))]
    names = {target["name"] for target in by_oid if "name" in target} | {"oid"}
    numbers = {number for number, target in enumerate(targets, 1) if target in by_oid}
    for part in parts(select["groupClause"]):
        if not isinstance(part, dict):
            continue
        if "ColumnRef" in part and part["ColumnRef"]["fields"][-1].get("String", {}).get("sval") in names:
            return True
        if part.get("A_Const", {}).get("ival", {}).get("ival") in numbers:
            return True
    return False


def _is_oid(node: Node) -> bool:
    return "ColumnRef" in node and node["ColumnRef"]["fields"][-1].get("String", {}).get("sval") == "oid"


def _pieces(
    text: str, location: int, relations: list[Node], whole: set[int], columns: str
) -> list[tuple[int, int, str]]:
    """Return where what is to be put; `whole` are the locations of relations that TABLE names."""
    pieces = []
    for relation in relations:
        name, schema = relation["relname"], relation.get("schemaname")
        condition = _condition(schema, name)
        # Bytes of the whole query, which are characters where it is ASCII; elsewhere the name is not found there.
        start = relation.get("location", 0) - location
        found = re.compile(rf"((pg_catalog|information_schema)\s*\.\s*)?{name}\b(?!\s*\*)", re.IGNORECASE).match(
            text, max(start, 0)
        )
        if condition is None or found is None:
            continue
        alias = "" if "alias" in relation else f" AS {name}"
        select = ""
        if relation.get("location", 0) in whole:
            keyword = _TABLE.search(text, 0, start)
            if keyword is None:
                continue
            start, select = keyword.start(), "SELECT * FROM "
        pieces.append((start, found.end(), f"{select}(SELECT {columns} FROM {found[0]} WHERE {condition}){alias}"))
    return pieces


def _shortened(text: str, location: int, columns: list[Node]) -> list[tuple[int, int, str]] | None:
    """Return where the schema in front of a relation's column goes, as that relation becomes a sub-select.

    None if it cannot be told. Of other relations the names stay.
    """
    pieces = []
    for column in columns:
        schema, name = (field.get("String", {}).get("sval") for field in column["fields"][-3:-1])
        if schema not in {"pg_catalog", "information_schema"} or _condition(schema, name) is None:
            continue
        start = column.get("location", 0) - location
        found = re.compile(rf"{schema}\s*\.\s*(?={name}\b)", re.IGNORECASE).match(text, max(start, 0))
        if found is None or len(column["fields"]) > 3:
            return None
        pieces.append((start, found.end(), ""))
    return pieces


def _condition(schema: str | None, name: str) -> str | None:
    if schema == "information_schema" and name in _BY_SCHEMA:
        return f"{_BY_SCHEMA[name]} OPERATOR(pg_catalog.<>) '{SCHEMA}'"
    if schema not in {None, "pg_catalog"}:
        return None
    if name in _OWN_NAMES:
        return f"NOT pg_catalog.starts_with(name, '{SCHEMA}_')"
    if name in _BY_OID:
        return f"{_BY_OID[name]} OPERATOR(pg_catalog.<>) {_OWN_OID}"
    return f"{_BY_NAME[name]} OPERATOR(pg_catalog.<>) '{SCHEMA}'" if name in _BY_NAME else None
