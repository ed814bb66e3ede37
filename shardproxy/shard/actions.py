"""The question to a shard's catalogs which keys a write of a table sets by foreign keys.

See `catalog` for how it travels.
"""

from collections.abc import Callable, Iterator
from typing import Final

from shardproxy.config import Table
from shardproxy.routing.resolved import KeyAction
from shardproxy.routing.written import BEFORE, EVENTS
from shardproxy.shard.catalog import ENCODING, read_json
from shardproxy.shard.written import oid_sql

# Constraints are found by the triggers on what they refer to: pg_constraint has no index by that. `event` is what
# happens to the rows of `relid`, `by` the constraint by which it does, `root` the first one of the chain.
_ACTIONS: Final = """WITH RECURSIVE fired(relid, event, by, by_event, root, root_event) AS (
  SELECT it.oid, event.name, 0::pg_catalog.oid, event.name, 0::pg_catalog.oid, event.name
  FROM (SELECT {oid}) AS it(oid), (VALUES ('UPDATE'), ('DELETE')) AS event(name)
  UNION
  SELECT c.conrelid, CASE WHEN f.event OPERATOR(pg_catalog.=) 'DELETE' AND c.confdeltype OPERATOR(pg_catalog.=) 'c'
      THEN 'DELETE' ELSE 'UPDATE' END,
    c.oid, f.event, CASE WHEN f.root OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN c.oid ELSE f.root END, f.root_event
  FROM fired AS f
  JOIN pg_catalog.pg_trigger AS t ON t.tgrelid OPERATOR(pg_catalog.=) f.relid AND t.tgisinternal
  JOIN pg_catalog.pg_constraint AS c ON c.oid OPERATOR(pg_catalog.=) t.tgconstraint
    AND c.confrelid OPERATOR(pg_catalog.=) t.tgrelid AND c.contype OPERATOR(pg_catalog.=) 'f'
  WHERE CASE WHEN f.event OPERATOR(pg_catalog.=) 'DELETE' THEN c.confdeltype ELSE c.confupdtype END
    OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'n', 'd']::pg_catalog."char"[])
)
SELECT pg_catalog.encode(pg_catalog.convert_to(COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
    f.root_event,
    ARRAY(SELECT a.attname FROM pg_catalog.pg_constraint AS r JOIN pg_catalog.pg_attribute AS a
      ON a.attrelid OPERATOR(pg_catalog.=) r.confrelid AND a.attnum OPERATOR(pg_catalog.=) ANY (r.confkey)
      WHERE r.oid OPERATOR(pg_catalog.=) f.root),
    (WITH RECURSIVE up(oid) AS (
        SELECT f.relid
        UNION SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits AS i ON i.inhrelid OPERATOR(pg_catalog.=) up.oid)
      SELECT pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, p.relname)) FROM up
      JOIN pg_catalog.pg_class AS p ON p.oid OPERATOR(pg_catalog.=) up.oid
      JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.relnamespace),
    ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) f.relid
      AND a.attnum OPERATOR(pg_catalog.=) ANY (CASE
        WHEN f.by_event OPERATOR(pg_catalog.=) 'DELETE'
          AND pg_catalog.jsonb_typeof(pg_catalog.to_jsonb(c) OPERATOR(pg_catalog.->) 'confdelsetcols')
            OPERATOR(pg_catalog.=) 'array'
        THEN ARRAY(SELECT one::pg_catalog.int2 FROM pg_catalog.jsonb_array_elements_text(
          pg_catalog.to_jsonb(c) OPERATOR(pg_catalog.->) 'confdelsetcols') AS one)
        ELSE c.conkey END)),
    EXISTS (SELECT FROM pg_catalog.pg_constraint AS r JOIN pg_catalog.pg_attribute AS a
      ON a.attrelid OPERATOR(pg_catalog.=) r.confrelid AND a.attnum OPERATOR(pg_catalog.=) ANY (r.confkey)
      WHERE r.oid OPERATOR(pg_catalog.=) f.root AND a.attgenerated OPERATOR(pg_catalog.<>) '')
    OR EXISTS (WITH RECURSIVE down(oid) AS (
        SELECT {oid}
        UNION SELECT i.inhrelid FROM down JOIN pg_catalog.pg_inherits AS i
          ON i.inhparent OPERATOR(pg_catalog.=) down.oid)
      SELECT FROM down JOIN pg_catalog.pg_trigger AS t ON t.tgrelid OPERATOR(pg_catalog.=) down.oid
      WHERE NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.<>) 'D'
        AND (t.tgtype OPERATOR(pg_catalog.&) {before}) OPERATOR(pg_catalog.=) {before})
  )), '[]')::pg_catalog.text, {encoding}), 'hex')
FROM fired AS f JOIN pg_catalog.pg_constraint AS c ON c.oid OPERATOR(pg_catalog.=) f.by
WHERE f.event OPERATOR(pg_catalog.=) 'UPDATE'"""


_BEFORE_UPDATE: Final = 1 | BEFORE | EVENTS["UPDATE"]
"""The bits of pg_trigger.tgtype that a BEFORE UPDATE ... FOR EACH ROW trigger has."""


def actions_sql(schema: str, name: str) -> str:
    """Return the query for what `parse_actions` reads, one value."""
    return _ACTIONS.format(oid=oid_sql(schema, name), encoding=ENCODING, before=f"'{_BEFORE_UPDATE}'::pg_catalog.int2")


def parse_actions(answer: str, sharded: Callable[[str, str], Table | None]) -> tuple[KeyAction, ...]:
    """Read the answer; `sharded` gives the listed table of a schema and name whose rows are placed by a key."""
    return tuple(dict.fromkeys(_actions(answer, sharded)))


def _actions(answer: str, sharded: Callable[[str, str], Table | None]) -> Iterator[KeyAction]:
    for event, columns, names, set_columns, computed in read_json(answer):
        for schema, name in names:
            table = sharded(schema, name)
            for column in set_columns if table is not None else ():
                if table is not None and column in table.key:
                    yield KeyAction(event, frozenset(columns), f"{schema}.{name}", column, computed)
