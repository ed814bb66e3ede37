"""The question to a shard's catalogs about functions that operators, casts and attributes call.

See `catalog` for how it travels.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from shardproxy.routing.hidden import Hidden
from shardproxy.sql import ATTRIBUTE, CAST, FunctionName

_KINDS: Final = ("operator", "attribute", "assigned")

# An extension's operators are immutable as a rule, so the answer is short. A function that is immutable may have a
# default that is not. The attribute of a table is a function of its row, (x).f one of whatever x is. A cast WITH INOUT
# calls the type's input function, which matters where a text may mean a moment: dates, and what is made of others.
HIDDEN: Final = f"""(WITH cast_(target, name, function, context) AS (
  SELECT t.oid, t.typname::pg_catalog.text,
    CASE WHEN c.castmethod OPERATOR(pg_catalog.=) 'i' THEN t.typinput::pg_catalog.oid ELSE c.castfunc END, c.castcontext
  FROM pg_catalog.pg_cast AS c JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) c.casttarget
  WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND NOT (c.castmethod OPERATOR(pg_catalog.=) 'i'
    AND t.typtype OPERATOR(pg_catalog.<>) ALL (ARRAY['c', 'd', 'm', 'r']::pg_catalog."char"[])
    AND t.typcategory OPERATOR(pg_catalog.<>) ALL (ARRAY['A', 'D']::pg_catalog."char"[]))
), own(kind, called, function) AS (
  SELECT 'operator', o.oprname::pg_catalog.text, o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator AS o
  WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  UNION ALL
  SELECT 'operator', pg_catalog.concat('{CAST}', c.name), c.function FROM cast_ AS c
  UNION ALL
  SELECT 'assigned', type.oid::pg_catalog.text, c.function FROM cast_ AS c
  JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) c.target
  CROSS JOIN LATERAL (VALUES (t.oid), (t.typarray)) AS type(oid)
  WHERE c.context OPERATOR(pg_catalog.<>) 'e'
  UNION ALL
  SELECT kind.name, pg_catalog.concat(kind.prefix, p.proname), p.oid FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) p.proargtypes[0]
  JOIN (VALUES ('attribute', '', true), ('operator', '{ATTRIBUTE}', false)) AS kind(name, prefix, of_rows)
    ON NOT kind.of_rows OR t.typtype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'd', 'p']::pg_catalog."char"[])
  WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    AND p.pronargs OPERATOR(pg_catalog.-) p.pronargdefaults OPERATOR(pg_catalog.<=) 1
)
SELECT COALESCE(pg_catalog.json_agg(DISTINCT
    pg_catalog.jsonb_build_array(own.kind, own.called, n.nspname, p.proname)), '[]')
FROM own JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) own.function
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
WHERE p.provolatile OPERATOR(pg_catalog.<>) 'i' OR p.pronargdefaults OPERATOR(pg_catalog.>) 0)"""
"""The sub-select; its value is JSON."""


def parse_hidden(value: Sequence[Sequence[str]]) -> Hidden:
    """Read the value."""
    found: dict[str, dict[str, set[FunctionName]]] = {kind: defaultdict(set) for kind in _KINDS}
    for kind, called, schema, name in value:
        found[kind][called].add((schema, name))
    operators, attributes, assigned = (
        {called: frozenset(functions) for called, functions in found[kind].items()} for kind in _KINDS
    )
    return Hidden(operators, attributes, {int(oid): functions for oid, functions in assigned.items()})
