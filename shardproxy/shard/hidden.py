"""The question to a shard's catalogs about functions that operators, casts and attributes call.

See `catalog` for how it travels.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from shardproxy.routing.hidden import Hidden
from shardproxy.sql import CAST, FunctionName

_KINDS: Final = ("operator", "attribute", "assigned")

# An extension's operators are immutable as a rule, so the answer is short. A function that is immutable may have a
# default that is not. An attribute's argument is a row of any type.
HIDDEN: Final = f"""(WITH own(kind, called, function) AS (
  SELECT 'operator', o.oprname::pg_catalog.text, o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator AS o
  WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  UNION ALL
  SELECT 'operator', pg_catalog.concat('{CAST}', t.typname), c.castfunc FROM pg_catalog.pg_cast AS c
  JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) c.casttarget
  WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  UNION ALL
  SELECT 'assigned', type.oid::pg_catalog.text, c.castfunc FROM pg_catalog.pg_cast AS c
  JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) c.casttarget
  CROSS JOIN LATERAL (VALUES (t.oid), (t.typarray)) AS type(oid)
  WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND c.castcontext OPERATOR(pg_catalog.<>) 'e'
  UNION ALL
  SELECT 'attribute', p.proname::pg_catalog.text, p.oid FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) p.proargtypes[0]
  WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    AND t.typtype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'd', 'p']::pg_catalog."char"[])
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
