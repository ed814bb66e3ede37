"""What DDL is about: which relations, statistics and publications a statement makes, changes, or rests on.

An object goes by the relation that it belongs to where its name has that (a trigger, a policy, a rule, a column, a
constraint but in SET CONSTRAINTS); an index, a sequence, a view and extended statistics have names of their own. A
schema is an object where its tables get another name with it. What is about none of these (types, functions, roles,
...) has no objects.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from shardproxy.sql.facts import TableRef
from shardproxy.sql.parse import Node, parts

Role = Literal[
    "make", "within", "view", "replaced", "change", "name", "parent", "owner", "twin", "apart", "equal", "key", "use"
]
"""What a statement does to an object.

"make": a table or sequence that it makes, "within" a new schema; "view": a view that it makes, "replaced": the one of
that name, if there is one; "change": it exists; "name": the name that a table or schema gets; "parent": the new one is
its child; "owner": of the new sequence; "twin": it becomes the child of what is changed, or its parent; "apart": no
longer; "equal": it must be where the changed one is; "key": a foreign key points there; "use": it is read or named.
"""


@dataclass(frozen=True, slots=True)
class Object:
    """One object by its name; `schema` is None without one."""

    kind: Literal["relation", "statistics", "constraint", "publication", "schema"]
    role: Role
    schema: str | None
    name: str

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class ColumnRename:
    """ALTER TABLE ... RENAME COLUMN, or ALTER TYPE ... RENAME ATTRIBUTE."""

    old: str
    new: str


_RELATIONS: Final = {
    "OBJECT_FOREIGN_TABLE",
    "OBJECT_INDEX",
    "OBJECT_MATVIEW",
    "OBJECT_SEQUENCE",
    "OBJECT_TABLE",
    "OBJECT_VIEW",
}
_OF_RELATIONS: Final = {"OBJECT_COLUMN", "OBJECT_POLICY", "OBJECT_RULE", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER"}
_TABLES: Final = {"OBJECT_FOREIGN_TABLE", "OBJECT_MATVIEW", "OBJECT_TABLE"}
_RENAMES_TABLES: Final = _TABLES | {"OBJECT_INDEX"}
"""PostgreSQL lets ALTER INDEX ... RENAME rename a table."""
_CHILDREN: Final[dict[str, Role]] = {
    "AT_AddInherit": "twin",
    "AT_AttachPartition": "twin",
    "AT_DetachPartition": "apart",
    "AT_DropInherit": "apart",
}
# All relations that they name are changed.
_LISTS: Final = {
    "ClusterStmt",
    "CreateStatsStmt",
    "GrantStmt",
    "LockStmt",
    "RefreshMatViewStmt",
    "ReindexStmt",
    "TruncateStmt",
    "VacuumStmt",
}
_NAME: Final = r'(?:"((?:[^"]|"")+)"|([A-Za-z_][A-Za-z0-9_$]*))'
_QUALIFIED: Final = re.compile(rf"(?:{_NAME}\.)?{_NAME}")


def objects_of(name: str, node: Node, tables: Sequence[TableRef]) -> tuple[Object, ...]:
    """Read a utility statement; `tables` are all relations that a walk has found in it."""
    return tuple(dict.fromkeys(_objects(name, node, tables)))


def made(table: TableRef, role: Role = "make") -> Object:
    """The object of a relation that is made."""
    return Object("relation", role, table.schema, table.name)


def column_rename(name: str, node: Node) -> ColumnRename | None:
    """Read a RenameStmt."""
    if name == "RenameStmt" and node["renameType"] in {"OBJECT_COLUMN", "OBJECT_ATTRIBUTE"}:
        return ColumnRename(node["subname"], node["newname"])
    return None


def _objects(name: str, node: Node, tables: Sequence[TableRef]) -> Iterator[Object]:
    match name:
        case "CreateStmt" | "CreateForeignTableStmt":
            yield from _table(node.get("base", node))
        case "CreateSeqStmt":
            yield _of(node["sequence"], "make")
            yield from _owner(node, "owner")
        case "ViewStmt":
            yield _of(node["view"], "view")
            if node.get("replace"):
                yield _of(node["view"], "replaced")
            yield from _others(tables, node["view"])
        case "CreateSchemaStmt":
            for element in node.get("schemaElts", ()):
                if "CreateStmt" in element:
                    yield Object("relation", "within", node.get("schemaname"),
                                 element["CreateStmt"]["relation"]["relname"])  # fmt: skip
        case "AlterTableStmt":
            yield from _alter(node)
        case "AlterSeqStmt":
            yield _of(node["sequence"], "change")
            yield from _owner(node, "equal")
        case "DropStmt":
            for item in node["objects"]:
                yield from _named(node["removeType"], item)
        case "CommentStmt" | "SecLabelStmt":
            yield from _named(node["objtype"], node["object"])
        case "RenameStmt" | "AlterObjectSchemaStmt" | "AlterOwnerStmt" | "AlterObjectDependsStmt":
            yield from _renamed(node)
        case "AlterStatsStmt":
            yield from _named("OBJECT_STATISTIC_EXT", {"List": {"items": node["defnames"]}})
        case "CreatePublicationStmt":
            yield from (_ref(table, "change") for table in tables)
        case "ConstraintsSetStmt":
            for item in node.get("constraints", ()):
                yield replace(_of(item["RangeVar"], "change"), kind="constraint")
        case "AlterPublicationStmt":
            yield Object("publication", "change", None, node["pubname"])
            yield from (_ref(table, "equal") for table in tables)
        case "CompositeTypeStmt":
            pass
        case "ImportForeignSchemaStmt":
            yield Object("relation", "make", node["local_schema"], "")
        case _ if name in _LISTS:
            yield from (_ref(table, "change") for table in tables)
        case _:
            subject = node.get("relation") or node.get("table")
            if isinstance(subject, dict) and "relname" in subject:
                yield _of(subject, "change")
            yield from _others(tables, subject)
    yield from _sequences(node)


def _of(node: Node, role: Role) -> Object:
    """The object of a RangeVar."""
    return Object("relation", role, node.get("schemaname"), node["relname"])


def _ref(table: TableRef, role: Role) -> Object:
    return Object("relation", role, table.schema, table.name)


def _others(tables: Sequence[TableRef], subject: Node | None) -> Iterator[Object]:
    for table in tables:
        if subject is None or (table.schema, table.name) != (subject.get("schemaname"), subject["relname"]):
            yield _ref(table, "use")


def _table(node: Node) -> Iterator[Object]:
    yield _of(node["relation"], "make")
    yield from (_of(parent["RangeVar"], "parent") for parent in node.get("inhRelations", ()))
    for element in node.get("tableElts", ()):
        if "TableLikeClause" in element:
            yield _of(element["TableLikeClause"]["relation"], "use")
    yield from _foreign_keys(node.get("tableElts", ()))


def _foreign_keys(elements: Sequence[Node]) -> Iterator[Object]:
    """What columns and constraints refer to."""
    for element in elements:
        yield from _foreign_keys(element.get("ColumnDef", {}).get("constraints", ()))
        if "pktable" in element.get("Constraint", ()):
            yield _of(element["Constraint"]["pktable"], "key")


def _alter(node: Node) -> Iterator[Object]:
    yield _of(node["relation"], "change")
    for item in node.get("cmds", ()):
        command = item["AlterTableCmd"]
        definition = command.get("def", {})
        yield from _foreign_keys([definition])
        if command["subtype"] in _CHILDREN:
            other = definition["PartitionCmd"]["name"] if "PartitionCmd" in definition else definition["RangeVar"]
            yield _of(other, _CHILDREN[command["subtype"]])


def _owner(node: Node, role: Role) -> Iterator[Object]:
    for option in node.get("options", ()):
        if option["DefElem"]["defname"] == "owned_by":
            names = _strings(option["DefElem"]["arg"])
            if len(names) > 1:  # not NONE
                yield _from_names(names[:-1], role)


def _renamed(node: Node) -> Iterator[Object]:
    kind = node.get("renameType") or node.get("objectType", "")
    if kind == "OBJECT_SCHEMA" and "newname" in node:
        yield Object("schema", "change", None, node["subname"])
        yield Object("schema", "name", None, node["newname"])
    elif "relation" not in node:
        yield from _named(kind, node.get("object", {}))
    else:
        yield from _renamed_relation(kind, node, node["relation"])


def _renamed_relation(kind: str, node: Node, relation: Node) -> Iterator[Object]:
    yield _of(relation, "change")
    if kind in _RENAMES_TABLES and "newname" in node:
        yield Object("relation", "name", None, node["newname"])
    elif kind in _TABLES and "newschema" in node:
        yield Object("relation", "name", node["newschema"], relation["relname"])


def _named(kind: str, item: Node) -> Iterator[Object]:
    """What DROP, COMMENT and ALTER name by a list of strings."""
    if kind == "OBJECT_PUBLICATION":
        yield Object("publication", "change", None, item["String"]["sval"])
    elif kind in _RELATIONS:
        yield _from_names(_strings(item), "change")
    elif kind in _OF_RELATIONS:
        yield _from_names(_strings(item)[:-1], "change")
    elif kind == "OBJECT_STATISTIC_EXT":
        found = _from_names(_strings(item), "change")
        yield Object("statistics", "change", found.schema, found.name)


def _strings(item: Node) -> list[str]:
    return [part["String"]["sval"] for part in item["List"]["items"]]


def _from_names(names: Sequence[str], role: Role) -> Object:
    return Object("relation", role, names[-2] if len(names) > 1 else None, names[-1])


def _sequences(node: Node) -> Iterator[Object]:
    """The sequences of defaults: constants that are given to nextval()."""
    for one in parts(node):
        if not isinstance(one, dict) or "funcname" not in one:
            continue
        if one["funcname"][-1].get("String", {}).get("sval") != "nextval":
            continue
        argument = one.get("args", [{}])[0]
        argument = argument.get("TypeCast", {}).get("arg", argument)
        match = _QUALIFIED.fullmatch(argument.get("A_Const", {}).get("sval", {}).get("sval", ""))
        if match is not None:
            space = _folded(match[1], match[2])
            name = _folded(match[3], match[4])
            assert name is not None
            yield Object("relation", "use", space, name)


def _folded(quoted: str | None, plain: str | None) -> str | None:
    if quoted is not None:
        return quoted.replace('""', '"')
    return None if plain is None else plain.lower()
