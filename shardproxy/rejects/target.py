"""What is known of the table that a COPY loads, for telling good rows from bad ones in sets.

All of it only helps to find suspects: each of them is tried by itself afterwards, so a fact that is missing or stale
costs time and changes nothing.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from shardproxy.rejects.form import pinned
from shardproxy.routing.identifiers import ascii_identifier, ascii_name
from shardproxy.shard.catalog import hex_literal, read_json, text
from shardproxy.shard.connection import Connection

SKIPS: Final = 17
"""The first version whose COPY passes over values that a type does not take."""

_OWN: Final = """(g.tgrelid = c.oid OR g.tgrelid = ANY (ARRAY(
   SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) AS t)))"""
"""A trigger is the table's, or one of its partitions'."""

_KIN: Final = """ARRAY(SELECT c.oid UNION SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) AS t
   UNION SELECT t.relid FROM pg_catalog.pg_partition_ancestors(c.oid) AS t)"""
"""The table, and what it is a part of or has as parts."""

EQUALITY: Final = """(SELECT pg_catalog.format('OPERATOR(%I.%s)', m.nspname, p.oprname)
   FROM pg_catalog.pg_opclass AS o
     JOIN pg_catalog.pg_amop AS w ON w.amopfamily = o.opcfamily AND w.amoplefttype = o.opcintype
       AND w.amoprighttype = o.opcintype AND w.amopstrategy = 3
     JOIN pg_catalog.pg_operator AS p ON p.oid = w.amopopr
     JOIN pg_catalog.pg_namespace AS m ON m.oid = p.oprnamespace
   WHERE o.oid = i.indclass[n - 1])"""
"""What a unique index `i` compares its column `n` by: btree's strategy 3."""

_OPERATOR: Final = """(SELECT pg_catalog.format('OPERATOR(%I.%s)', m.nspname, p.oprname)
   FROM pg_catalog.pg_operator AS p JOIN pg_catalog.pg_namespace AS m ON m.oid = p.oprnamespace WHERE p.oid = {oid})"""

_ENFORCED: Final = "coalesce((pg_catalog.to_json(k) ->> 'conenforced')::pg_catalog.bool, true)"
"""From PostgreSQL 18 on a constraint may be NOT ENFORCED."""

_DEPENDS: Final = """(SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
   AND d.objid = i.indexrelid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
   AND d.refobjid = c.oid AND d.refobjsubid = a.attnum)"""

_FACTS: Final = pinned(
    """SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
 'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000,
 'messages', pg_catalog.current_setting('client_min_messages'),
 'language', pg_catalog.current_setting('lc_messages'),
 'kind', c.relkind,
 'rules', EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid AND r.ev_type = '3'),
 'before', EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE {own} AND NOT g.tgisinternal
   AND g.tgtype::pg_catalog.int4 & 7 = ANY (ARRAY[3, 7]) AND g.tgenabled <> 'D'),
 'after', EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE {own} AND NOT g.tgisinternal
   AND g.tgtype::pg_catalog.int4 & 1 = 1 AND g.tgtype::pg_catalog.int4 & 2 = 0 AND g.tgenabled <> 'D'),
 'itself', EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
   WHERE k.contype = 'f' AND k.conrelid = ANY ({kin}) AND k.confrelid = ANY ({kin})),
 'unique', EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid
   AND (i.indisunique OR i.indisexclusion)),
 'keys', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
     'columns', (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid
       AND a.attnum > 0 AND (a.attnum = ANY (i.indkey) OR EXISTS {depends})),
     'terms', (SELECT pg_catalog.json_agg(pg_catalog.pg_get_indexdef(i.indexrelid, n, false) ORDER BY n)
       FROM pg_catalog.generate_series(1, i.indnkeyatts) AS n),
     'operators', (SELECT pg_catalog.json_agg(coalesce({excluded}, {equality}) ORDER BY n)
       FROM pg_catalog.generate_series(1, i.indnkeyatts) AS n),
     'collations', (SELECT pg_catalog.json_agg((SELECT pg_catalog.format('COLLATE %I.%I', m.nspname, l.collname)
         FROM pg_catalog.pg_collation AS l JOIN pg_catalog.pg_namespace AS m ON m.oid = l.collnamespace
         WHERE l.oid = i.indcollation[n - 1]) ORDER BY n)
       FROM pg_catalog.generate_series(1, i.indnkeyatts) AS n),
     'where', pg_catalog.pg_get_expr(i.indpred, c.oid),
     'nulls_too', coalesce((pg_catalog.to_json(i) ->> 'indnullsnotdistinct')::pg_catalog.bool, false)))
   FROM pg_catalog.pg_index AS i LEFT JOIN pg_catalog.pg_constraint AS k
     ON k.conindid = i.indexrelid AND k.contype = 'x'
   WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)),
 'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname, 'not_null', a.attnotnull,
     'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
     'default', CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END) ORDER BY a.attnum)
   FROM pg_catalog.pg_attribute AS a
     LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
 'checks', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('expression',
     pg_catalog.pg_get_expr(k.conbin, k.conrelid), 'columns', (SELECT pg_catalog.json_agg(a.attname)
       FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))))
   FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'c' AND {enforced}),
 'foreign', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('parent', k.confrelid::pg_catalog.regclass::text,
     'itself', k.confrelid = c.oid,
     'operators', (SELECT pg_catalog.json_agg({compared} ORDER BY o.n)
       FROM pg_catalog.unnest(k.conpfeqop) WITH ORDINALITY AS o(oid, n)),
     'columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY o.n) FROM pg_catalog.unnest(k.conkey)
       WITH ORDINALITY AS o(attnum, n) JOIN pg_catalog.pg_attribute AS a
       ON a.attrelid = k.conrelid AND a.attnum = o.attnum),
     'keys', (SELECT pg_catalog.json_agg(a.attname ORDER BY o.n) FROM pg_catalog.unnest(k.confkey)
       WITH ORDINALITY AS o(attnum, n) JOIN pg_catalog.pg_attribute AS a
       ON a.attrelid = k.confrelid AND a.attnum = o.attnum)))
   FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.conparentid = 0 AND {enforced}
     AND NOT pg_catalog.row_security_active(k.confrelid))
)::pg_catalog.text, 'UTF8'), 'hex')
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
WHERE s.nspname = pg_catalog.convert_from(pg_catalog.decode({{schema}}, 'hex'), 'UTF8')
  AND c.relname = pg_catalog.convert_from(pg_catalog.decode({{name}}, 'hex'), 'UTF8')""".format(
        own=_OWN,
        kin=_KIN,
        equality=EQUALITY,
        enforced=_ENFORCED,
        excluded=_OPERATOR.format(oid="k.conexclop[n]"),
        compared=_OPERATOR.format(oid="o.oid"),
        depends=_DEPENDS,
    )
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a COPY names."""

    schema: str
    name: str
    columns: tuple[str, ...]
    """Those that COPY fills, in its order."""
    where: str = ""
    """COPY's WHERE with the word itself; empty without one."""

    @property
    def quoted(self) -> str:
        """The table's name in SQL."""
        return ascii_name(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class Target(Asked):
    """A table on one shard."""

    facts: Any = None
    """What _FACTS asks for."""

    @classmethod
    async def of(cls, connection: Connection, asked: Asked) -> "Target":
        """Ask a server."""
        sql = _FACTS.format(schema=hex_literal(asked.schema), name=hex_literal(asked.name))
        [found] = await connection.fetch_row(sql, 1)
        return cls(asked.schema, asked.name, asked.columns, asked.where, read_json(text(found)))

    @property
    def version(self) -> int:
        """The server's major version."""
        version: int = self.facts["version"]
        return version

    @property
    def tells_skipped(self) -> bool:
        """Whether COPY's ON_ERROR passes over values that a type refuses, from 17 on, and its notices can be read.

        They name line and column in words alone: without an English locale, in words that are not known.
        """
        english = re.fullmatch("(C|POSIX)([.].*)?|en.*", self.facts["language"], re.IGNORECASE | re.DOTALL)
        return self.version >= SKIPS and self.facts["messages"] not in {"warning", "error"} and english is not None

    @property
    def column_list(self) -> str:
        """The columns in SQL."""
        return ", ".join(map(ascii_identifier, self.columns))

    def type_of(self, name: str) -> str:
        """Return a column's type in SQL."""
        kind: str = next(column["type"] for column in self.facts["columns"] if column["name"] == name)
        return kind

    @property
    def takes_insert(self) -> bool:
        """Whether INSERT does there what COPY does."""
        return self.facts["kind"] in {"r", "p"} and not self.facts["rules"]

    @property
    def in_sets(self) -> bool:
        """Whether what is stored is what was sent, and one row stands for itself: none brings another's parent."""
        return not (self.facts["before"] or self.facts["after"] or self.facts["itself"])
