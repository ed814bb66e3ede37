"""The question to a shard's catalogs about a reference table that is written. See `catalog` for how it travels."""

from collections.abc import Callable
from typing import Final

from shardproxy.routing.written import Trigger, Written, WrittenColumn
from shardproxy.shard.catalog import ENCODING, hex_literal, is_constant, read_json
from shardproxy.shard.counted import COUNTED
from shardproxy.shard.hidden import HIDDEN, parse_hidden

SILENCING: Final = 15
"""The first version where the right to set session_replication_role can be granted."""

_IT: Final = """SELECT pg_catalog.to_regclass(pg_catalog.concat(
    pg_catalog.quote_ident(pg_catalog.convert_from(pg_catalog.decode({space}, 'hex'), {encoding})), '.',
    pg_catalog.quote_ident(pg_catalog.convert_from(pg_catalog.decode({name}, 'hex'), {encoding}))))::pg_catalog.oid"""

# An operator of pg_catalog is written in full, as in `catalog`: the session's search_path may have others.
_WRITTEN: Final = """WITH RECURSIVE it(oid) AS (
  {it}
), parts(oid) AS (
  SELECT it.oid FROM it
  UNION SELECT i.inhrelid FROM parts JOIN pg_catalog.pg_inherits AS i ON i.inhparent OPERATOR(pg_catalog.=) parts.oid
), referring(oid) AS (
  SELECT it.oid FROM it
  UNION SELECT c.conrelid FROM referring JOIN pg_catalog.pg_constraint AS c
    ON c.confrelid OPERATOR(pg_catalog.=) referring.oid AND c.contype OPERATOR(pg_catalog.=) 'f'
    AND (c.confdeltype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'n', 'd']::pg_catalog."char"[])
      OR c.confupdtype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'n', 'd']::pg_catalog."char"[]))
), base(attnum, typid) AS (
  SELECT a.attnum, a.atttypid FROM it JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) it.oid
    AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
  UNION ALL SELECT base.attnum, t.typbasetype FROM base JOIN pg_catalog.pg_type AS t
    ON t.oid OPERATOR(pg_catalog.=) base.typid AND t.typtype OPERATOR(pg_catalog.=) 'd'
), children(oid) AS (
  SELECT i.inhrelid FROM it JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) it.oid
    AND c.relkind OPERATOR(pg_catalog.<>) 'p'
  JOIN pg_catalog.pg_inherits AS i ON i.inhparent OPERATOR(pg_catalog.=) it.oid
), keys(columns, is_primary, oid) AS (
  SELECT (SELECT pg_catalog.json_agg(a.attname ORDER BY k.place)
      FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(number, place)
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
        AND a.attnum OPERATOR(pg_catalog.=) k.number WHERE k.place OPERATOR(pg_catalog.<=) i.indnkeyatts),
    i.indisprimary, i.indexrelid
  FROM it JOIN pg_catalog.pg_index AS i ON i.indrelid OPERATOR(pg_catalog.=) it.oid
  WHERE i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    AND NOT EXISTS (SELECT FROM children)
    AND NOT EXISTS (SELECT FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(number, place)
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
        AND a.attnum OPERATOR(pg_catalog.=) k.number
      WHERE k.place OPERATOR(pg_catalog.<=) i.indnkeyatts AND NOT a.attnotnull)
), alone(name, immediate) AS (
  SELECT a.attname, i.indimmediate FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_attribute AS a
    ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
      AND (i.indexprs IS NOT NULL OR a.attnum OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[])
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute AS g WHERE g.attrelid OPERATOR(pg_catalog.=) i.indrelid
          AND g.attgenerated OPERATOR(pg_catalog.<>) ''
          AND g.attnum OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[])))
    WHERE (i.indisunique OR i.indisexclusion)
      AND i.indrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT p.oid FROM parts AS p))
)
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
  'kind', r.relkind,
  'version', pg_catalog.current_setting('server_version_num'),
  'key', (SELECT k.columns FROM keys AS k ORDER BY k.is_primary DESC, k.oid LIMIT 1),
  'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, b.typid::pg_catalog.int8,
      a.attgenerated OPERATOR(pg_catalog.<>) '', a.attidentity OPERATOR(pg_catalog.=) 'a',
      CASE WHEN a.attgenerated OPERATOR(pg_catalog.=) '' THEN COALESCE(
        pg_catalog.pg_get_expr(d.adbin, d.adrelid), pg_catalog.pg_get_expr(t.typdefaultbin, 0::pg_catalog.oid)) END,
      b.typid::pg_catalog.int8 OPERATOR(pg_catalog.>=) 16384
        AND (bt.typtype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'r', 'm']::pg_catalog."char"[])
          OR bt.typcategory OPERATOR(pg_catalog.=) 'A')) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
    JOIN base AS b ON b.attnum OPERATOR(pg_catalog.=) a.attnum
    JOIN pg_catalog.pg_type AS bt ON bt.oid OPERATOR(pg_catalog.=) b.typid
      AND bt.typtype OPERATOR(pg_catalog.<>) 'd'
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid
      AND d.adnum OPERATOR(pg_catalog.=) a.attnum
    WHERE a.attrelid OPERATOR(pg_catalog.=) r.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped),
  'triggers', (SELECT pg_catalog.json_agg(DISTINCT pg_catalog.jsonb_build_array(t.tgname, t.tgtype,
      t.tginitdeferred, t.tgdeferrable))
    FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT p.oid FROM parts AS p))
      AND NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.<>) 'D'),
  'rules', EXISTS (SELECT FROM pg_catalog.pg_rewrite AS w WHERE w.ev_class OPERATOR(pg_catalog.=) r.oid
    AND w.ev_type OPERATOR(pg_catalog.<>) '1' AND w.ev_enabled OPERATOR(pg_catalog.<>) 'D'),
  'cascades', EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE NOT t.tgisinternal
    AND t.tgenabled OPERATOR(pg_catalog.<>) 'D' AND t.tgrelid OPERATOR(pg_catalog.<>) r.oid
    AND t.tgrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT f.oid FROM referring AS f))),
  'given', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, p.relname,
      CASE WHEN a.attidentity OPERATOR(pg_catalog.<>) '' THEN '' ELSE COALESCE(
        pg_catalog.pg_get_expr(d.adbin, d.adrelid), pg_catalog.pg_get_expr(t.typdefaultbin, 0::pg_catalog.oid),
        'NULL::text') END))
    FROM referring AS f JOIN pg_catalog.pg_constraint AS c ON c.confrelid OPERATOR(pg_catalog.=) f.oid
      AND c.contype OPERATOR(pg_catalog.=) 'f' AND 'd'::pg_catalog."char" OPERATOR(pg_catalog.=)
        ANY (ARRAY[c.confdeltype, c.confupdtype])
    JOIN pg_catalog.pg_class AS p ON p.oid OPERATOR(pg_catalog.=) c.conrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) c.conrelid
      AND a.attnum OPERATOR(pg_catalog.=) ANY (c.conkey)
    JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid
      AND d.adnum OPERATOR(pg_catalog.=) a.attnum),
  'referenced', (SELECT pg_catalog.json_agg(DISTINCT a.attname) FROM pg_catalog.pg_constraint AS c
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) r.oid
      AND a.attnum OPERATOR(pg_catalog.=) ANY (c.confkey)
    WHERE c.confrelid OPERATOR(pg_catalog.=) r.oid AND c.contype OPERATOR(pg_catalog.=) 'f'),
  'refers', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.conname, n.nspname, p.relname))
    FROM pg_catalog.pg_constraint AS c
    JOIN pg_catalog.pg_class AS p ON p.oid OPERATOR(pg_catalog.=) c.confrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.relnamespace
    WHERE c.conrelid OPERATOR(pg_catalog.=) r.oid AND c.contype OPERATOR(pg_catalog.=) 'f'),
  'can_silence', {silence},
  'unique', (SELECT pg_catalog.json_agg(DISTINCT s.name) FROM alone AS s WHERE s.immediate),
  'late', (SELECT pg_catalog.json_agg(DISTINCT s.name) FROM alone AS s WHERE NOT s.immediate),
  'recursive', EXISTS (SELECT FROM pg_catalog.pg_constraint AS c WHERE c.contype OPERATOR(pg_catalog.=) 'f'
    AND c.conrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT p.oid FROM parts AS p))
    AND c.confrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT p.oid FROM parts AS p))),
  'inherited', EXISTS (SELECT FROM children),
  'moving', {moving},
  'hidden', {hidden}
)::pg_catalog.text, {encoding}), 'hex')
FROM it LEFT JOIN pg_catalog.pg_class AS r ON r.oid OPERATOR(pg_catalog.=) it.oid"""

# The columns by which a table, or a partition of it, is partitioned; all columns where it is by an expression.
MOVING: Final = """(SELECT pg_catalog.json_agg(DISTINCT a.attname) FROM pg_catalog.pg_partitioned_table AS m
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) m.partrelid
      AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped AND (m.partexprs IS NOT NULL
        OR a.attnum OPERATOR(pg_catalog.=) ANY (m.partattrs::pg_catalog.int2[]))
    WHERE m.partrelid OPERATOR(pg_catalog.=) ANY (ARRAY({parts})))"""

_SUPERUSER: Final = "pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on'"
_GRANTED: Final = "pg_catalog.has_parameter_privilege('session_replication_role', 'SET')"


def oid_sql(schema: str, name: str) -> str:
    """Return the sub-select for a relation's OID."""
    return f"({_IT.format(space=hex_literal(schema), name=hex_literal(name), encoding=ENCODING)})"


def written_sql(schema: str, name: str, version: int) -> str:
    """Return the query for what `parse_written` reads, one value. `version` is 16 or so."""
    return _WRITTEN.format(
        it=_IT.format(space=hex_literal(schema), name=hex_literal(name), encoding=ENCODING),
        encoding=ENCODING,
        silence=_GRANTED if version >= SILENCING else _SUPERUSER,
        moving=MOVING.format(parts="SELECT p.oid FROM parts AS p"),
        hidden=HIDDEN,
    )


def parse_written(answer: str, is_sharded: Callable[[str, str], bool] = lambda _schema, _name: False) -> Written:
    """Read the answer; `is_sharded` tells of a schema and a name whether its rows are on the shard of their key."""
    facts = read_json(answer)
    hidden = parse_hidden(facts["hidden"])
    if facts["kind"] is None:
        return Written(hidden=hidden)
    return Written(
        kind=facts["kind"],
        version=int(facts["version"]) // 10000,
        key=tuple(facts["key"] or ()),
        columns=tuple(WrittenColumn(*column) for column in facts["columns"] or ()),
        triggers=tuple(Trigger(*trigger) for trigger in facts["triggers"] or ()),
        rules=facts["rules"],
        cascades=facts["cascades"],
        defaults_referring=any(
            not is_constant(default) and not is_sharded(*table) for *table, default in facts["given"] or ()
        ),
        referenced=frozenset(facts["referenced"] or ()),
        spread=frozenset(name for name, *table in facts["refers"] or () if is_sharded(*table)),
        can_silence=facts["can_silence"],
        unique=frozenset(facts["unique"] or ()),
        late=frozenset(facts["late"] or ()),
        recursive=facts["recursive"],
        inherited=facts["inherited"],
        moving=frozenset(facts["moving"] or ()),
        hidden=hidden,
    )


_OTHERS_WRITTEN: Final = """WITH RECURSIVE it(oid) AS ({it}), parts(oid) AS (
  SELECT it.oid FROM it
  UNION SELECT i.inhrelid FROM parts JOIN pg_catalog.pg_inherits AS i ON i.inhparent OPERATOR(pg_catalog.=) parts.oid)
, written(own, relid, put, gone, text) AS (
  SELECT s.relid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT p.oid FROM parts AS p)), s.relid,
    s.n_tup_ins OPERATOR(pg_catalog.+) s.n_tup_upd, s.n_tup_del,
    pg_catalog.concat_ws(' ', s.relid, s.n_tup_ins, s.n_tup_upd, s.n_tup_del)
  FROM ({counted}) AS s(relid, n_tup_ins, n_tup_upd, n_tup_del))
SELECT (SELECT COALESCE(pg_catalog.string_agg(w.text, ',' ORDER BY w.relid), '') FROM written AS w WHERE NOT w.own),
  (SELECT COALESCE(pg_catalog.sum(w.put), 0) FROM written AS w WHERE w.own),
  (SELECT COALESCE(pg_catalog.sum(w.gone), 0) FROM written AS w WHERE w.own)"""


def others_written_sql(schema: str, name: str) -> str:
    """Return the query for what this session has written in all other tables, one value, and two numbers of this one.

    The value is the same before and after a statement that has written this table alone. The numbers are of rows that
    were inserted or updated, and of those that were deleted.
    """
    it = _IT.format(space=hex_literal(schema), name=hex_literal(name), encoding=ENCODING)
    return _OTHERS_WRITTEN.format(it=it, counted=COUNTED)
