"""What PostgreSQL counts of the rows that a session changes, as SQL for larger questions."""

from typing import Final

_WAYS: Final = ("inserted", "updated", "deleted")
_ROWS: Final = tuple(f"pg_catalog.pg_stat_get_xact_tuples_{way}(s.oid)" for way in _WAYS)

# pg_stat_xact_all_tables joins every table to its indexes before it counts, which takes a server ten times as long.
# From 16384 on they are the user's: initdb has made those of information_schema.
COUNTED: Final = f"""SELECT s.oid, {", ".join(_ROWS)} FROM pg_catalog.pg_class AS s
    WHERE s.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'm']::pg_catalog."char"[])
      AND s.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
      AND ({" OPERATOR(pg_catalog.+) ".join(_ROWS)}) OPERATOR(pg_catalog.>) 0"""
"""The user's tables for which something is counted: OID, and rows inserted, updated and deleted.

The counts go on from transaction to transaction, up to where the session reports them: only what two answers of one
transaction differ by was written in between. What a subtransaction has undone is counted as well.
"""
