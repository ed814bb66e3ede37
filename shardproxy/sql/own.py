"""Whether a definition names the proxy's own schema, in whatever spelling: not as a relation's, which resolving finds.

Names have been folded by the grammar. A body of code is text: what it builds at run time cannot be seen.
"""

import re
from typing import Any, Final

from shardproxy.sql.parse import Node, parts

SCHEMA: Final = "shardproxy"
"""The schema, on every shard, of the proxy's own tables."""

# Lists of names that are columns, where the schema's name means nothing.
_COLUMNS: Final = frozenset({"keys", "fk_attrs", "pk_attrs", "including", "cols", "attlist", "columns"})
# Where the name of a schema stands by itself.
_SCHEMA_KEYS: Final = frozenset({"schemaname", "newschema", "subname", "local_schema"})
_OBJECT_TYPES: Final = frozenset({"removeType", "renameType", "objectType", "objtype"})

_IN_CODE: Final = re.compile(
    r"""\bshardproxy"?\s*\.\s*"?(decisions|identity|imports|place)\b|\bschema\s+(if\s+exists\s+)?"?shardproxy\b"""
    r"""|\bsearch_path\b[^;]*\bshardproxy\b""",
    re.IGNORECASE,
)
_IN_PATH: Final = re.compile(rf'(?:^|,)\s*(?:(?i:{SCHEMA})|"{SCHEMA}")\s*(?:,|$)')


def names_schema(name: str, node: Node) -> bool:
    """Tell of a utility statement, its node under its node's name, whether it names the schema or an object in it."""
    about_schema = any(node.get(key) == "OBJECT_SCHEMA" for key in _OBJECT_TYPES)
    about_schema = about_schema or node.get("targtype") == "ACL_TARGET_ALL_IN_SCHEMA"
    if name == "ReindexStmt" and node["kind"] == "REINDEX_OBJECT_SCHEMA" and node.get("name") == SCHEMA:
        return True
    pending: list[tuple[Any, bool]] = [(node, about_schema)]
    while pending:
        part, alone = pending.pop()
        if isinstance(part, list):
            names = [item["String"].get("sval", "") for item in part if isinstance(item, dict) and "String" in item]
            if SCHEMA in (names if alone else names[:-1]):
                return True
            pending += [(item, alone) for item in part]
            continue
        if not isinstance(part, dict):
            continue
        if part.get("name") == "search_path" and "args" in part:
            # SET of a function, a role or a database.
            alone = True
        for key, child in part.items():
            if key in _SCHEMA_KEYS and child == SCHEMA:
                return True
            if key == "String" and alone and child.get("sval") == SCHEMA:
                return True
            if key == "A_Const" and alone and child.get("sval", {}).get("sval") == SCHEMA:
                return True
            if key == "DefElem":
                # ALTER DEFAULT PRIVILEGES IN SCHEMA; CREATE EXTENSION ... SCHEMA; AS of a function is its body.
                kind = child.get("defname")
                if kind == "as" and names_in_code(child.get("arg")):
                    return True
                pending.append((child.get("arg"), kind in {"schemas", "schema"}))
            elif key == "PublicationObjSpec" and child.get("name") == SCHEMA:
                return True
            elif key not in _COLUMNS:
                pending.append((child, alone))
    return False


def in_path(path: str) -> bool:
    """Tell of a search_path whether it has the schema."""
    return _IN_PATH.search(path) is not None


def names_in_code(node: Any) -> bool:
    """Tell of the strings below a node whether one is code that names the schema."""
    return any(isinstance(part, str) and _IN_CODE.search(part) for part in parts(node))
