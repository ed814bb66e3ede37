"""SQL identifiers in the configuration, read as PostgreSQL reads them in a statement.

Unquoted names are folded to lower case, quoted ones kept (manual, "Identifiers and Key Words"). Key words need no
quotes here, as only a name is expected.
"""

import re

NAMEDATALEN = 64
"""Bytes of a name in the catalogs, its terminating NUL included (src/include/pg_config_manual.h)."""

_IDENTIFIER = re.compile(
    r'"(?P<quoted>(?:[^"\0]|"")*)"|(?P<plain>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)'
)
_UPPER = {ord("A") + n: ord("a") + n for n in range(26)}


def split_qualified(text: str) -> tuple[str, ...]:
    """Return the parts of a dotted name, or raise ValueError with the reason."""
    parts: list[str] = []
    place = 0
    while True:
        match = _IDENTIFIER.match(text, place)
        if match is None:
            raise ValueError(f"{text!r} is not a valid SQL name")
        parts.append(_name(match))
        place = match.end()
        if place == len(text):
            return tuple(parts)
        if text[place] != ".":
            raise ValueError(f"{text!r} is not a valid SQL name")
        place += 1


def _name(match: re.Match[str]) -> str:
    quoted = match["quoted"]
    # In a UTF8 database PostgreSQL folds ASCII letters only (downcase_identifier).
    name = match["plain"].translate(_UPPER) if quoted is None else quoted.replace('""', '"')
    if not name:
        raise ValueError("a quoted name may not be empty")
    if len(name.encode()) >= NAMEDATALEN:
        raise ValueError(f"{name!r} is longer than {NAMEDATALEN - 1} bytes, which PostgreSQL would truncate")
    return name


def parse_identifier(text: str) -> str:
    """Read one name, such as `id` or `"Weird.Name"`."""
    parts = split_qualified(text)
    if len(parts) != 1:
        raise ValueError(f"{text!r} is a qualified name; an unqualified one is expected")
    return parts[0]


def parse_relation(text: str, default_schema: str = "public") -> tuple[str, str]:
    """Read `relation` or `schema.relation`; return (schema, relation)."""
    parts = split_qualified(text)
    if len(parts) > 2:
        raise ValueError(f"{text!r} has more parts than a schema and a relation")
    return (parts[0], parts[1]) if len(parts) == 2 else (default_schema, parts[0])
