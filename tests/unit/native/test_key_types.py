"""The table of key types is complete, agrees with PostgreSQL's catalog, and is what the documentation says."""

from typing import Any

import psycopg
import pytest

from shardproxy.native import KeyType, key_types
from tests.support.databases import Databases, Servers
from tests.unit.native.key_types import DOCUMENT, in_document, table
from tests.unit.native.spellings import KEY_TYPES

ROWS = key_types()


def test_names_oids_and_families_are_the_catalogs(servers: Servers) -> None:
    """The family is that of the hash operator class that a partitioned table would take."""
    databases = Databases.create(servers, shards=0)
    try:
        with psycopg.connect(databases.oracle) as connection:
            for row in ROWS:
                assert catalog_row(connection, row) == (row.name, row.sql, row.collatable), row.name
                assert partition_family(connection, row) == row.family
    finally:
        databases.drop()


def catalog_row(connection: psycopg.Connection[Any], row: KeyType) -> object:
    query = "SELECT typname, format_type(oid, NULL), typcollation <> 0 FROM pg_type WHERE oid = %s"
    return connection.execute(query, (row.oid,)).fetchone()


def partition_family(connection: psycopg.Connection[Any], row: KeyType) -> object:
    connection.execute(f"CREATE TABLE of_{row.name} (k {row.sql}) PARTITION BY HASH (k)".encode())
    query = """SELECT f.opfname FROM pg_partitioned_table p JOIN pg_opclass c ON c.oid = p.partclass[0]
        JOIN pg_opfamily f ON f.oid = c.opcfamily WHERE p.partrelid = %s::regclass"""
    found = connection.execute(query, (f"of_{row.name}",)).fetchone()
    return None if found is None else found[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_type_is_compared_with_postgresql(row: KeyType) -> None:
    """Without spellings a type would pass every oracle test unseen."""
    assert row.code in {key.native[0] for key in KEY_TYPES}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_a_row_refers_to_is_in_the_table(row: KeyType) -> None:
    names = {other.name for other in ROWS}
    assert row.same <= names
    assert row.literals <= names
    assert row.name in row.same
    assert row.understood


def test_names_and_oids_are_distinct() -> None:
    for column in ("code", "name", "sql", "oid"):
        assert len({getattr(row, column) for row in ROWS}) == len(ROWS), column


def test_the_documentation_has_the_table() -> None:
    """`python -m tests.unit.native.key_types` renews it."""
    assert in_document(DOCUMENT.read_text()) == table()
