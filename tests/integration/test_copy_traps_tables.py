"""TRAPS: which columns and which table COPY FROM means, its options, and client encodings."""

import pytest

from tests.support.differential import Arena, Copy, ways
from tests.support.rawclient import PROTOCOLS, Protocol, Reply

pytestmark = pytest.mark.newest

PLAIN = "COPY t FROM STDIN"
ROWS = b"".join(b"%d\tvalue %d\n" % (n, n) for n in range(40))
NUMBERS = "CREATE TABLE t (k int, v text)"

COLUMNS = {
    "no column list": ("CREATE TABLE t (a int, b text, k int)", PLAIN, b"1\tx\t7\n2\ty\t8\n3\tz\t9\n"),
    "columns in another order": (NUMBERS, "COPY t (v, k) FROM STDIN", b"a\t1\nb\t2\nc\t3\n"),
    "some columns": ("CREATE TABLE t (a int DEFAULT 5, k int, c text)", "COPY t (k) FROM STDIN", b"1\n2\n3\n"),
    "dropped column in front": (
        "CREATE TABLE t (a int, k int, v text); ALTER TABLE t DROP COLUMN a",
        PLAIN,
        ROWS,
    ),
    "dropped columns all over": (
        "CREATE TABLE t (a int, b int, c text, k int, d int); ALTER TABLE t DROP a, DROP c, DROP d, ADD v text",
        PLAIN,
        b"1\t2\tx\n3\t4\ty\n5\t6\tz\n",
    ),
    "generated column in front": (
        "CREATE TABLE t (g int GENERATED ALWAYS AS (k * 2) STORED, k int, v text)",
        PLAIN,
        ROWS,
    ),
    "default beside": ("CREATE TABLE t (k int, i int DEFAULT 3, v int)", "COPY t (v, k) FROM STDIN", b"1\t1\n2\t2"),
    "quoted columns": (
        'CREATE TABLE t ("K" text, "a b" text, k int, "sel""ect" text)',
        'COPY t ("sel""ect", "a b", K, "K") FROM STDIN',
        b"a\tb\t1\tc\nd\te\t2\tf\n",
    ),
    "key with a constant default is not in the list": (
        "CREATE TABLE t (k int DEFAULT 11, v text)",
        "COPY t (v) FROM STDIN",
        b"a\nb\n",
    ),
    "text key with a constant default is not in the list": (
        "CREATE TABLE t (k text DEFAULT 'it''s', v text)",
        "COPY t (v) FROM STDIN",
        b"a\nb\n",
    ),
    "key's type has a default": (
        "CREATE DOMAIN answer AS int DEFAULT 42; CREATE TABLE t (k answer, v text)",
        "COPY t (v) FROM STDIN",
        b"a\nb\n",
    ),
    "domain over a domain": (
        "CREATE DOMAIN code AS varchar(5); CREATE DOMAIN strict AS code NOT NULL; CREATE TABLE t (k strict, v int)",
        PLAIN,
        b"abc\t1\nd  \t2\n",
    ),
    "schema named": (NUMBERS, "COPY public.t FROM STDIN", ROWS),
    "where": (NUMBERS, "COPY t FROM STDIN WHERE k % 3 = 1", ROWS),
    "where nothing is left": (NUMBERS, "COPY t FROM STDIN (FORMAT text) WHERE v IS NULL", ROWS),
    "comments and case": (NUMBERS, "/* load /* it */ */ copy T -- t\n (K,V) from StDiN;", ROWS),
    "statement with a semicolon and an empty one": (NUMBERS, "COPY t FROM STDIN;", ROWS),
    "trigger that changes the key's neighbour": (
        NUMBERS + "; CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN NEW.v = upper(NEW.v); RETURN NEW; END$$; "
        "CREATE TRIGGER up BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION up()",
        PLAIN,
        ROWS,
    ),
    "trigger that drops rows": (
        NUMBERS + "; CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF NEW.k % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END$$; "
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
        PLAIN,
        ROWS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_columns(arena: Arena, name: str) -> None:
    outcome = arena.compare_ways(*COLUMNS[name])
    assert outcome.last.error is None
    assert outcome.last.tags == [f"COPY {len(outcome.rows)}"]


STATEMENTS = {
    "no such table": (NUMBERS, "COPY nowhere FROM STDIN"),
    "no such schema": (NUMBERS, "COPY nowhere.t FROM STDIN"),
    "no such column": (NUMBERS, "COPY t (k, w) FROM STDIN"),
    "column twice": (NUMBERS, "COPY t (k, v, k) FROM STDIN"),
    "generated column named": (
        "CREATE TABLE t (g int GENERATED ALWAYS AS (k * 2) STORED, k int, v text)",
        "COPY t (g, k) FROM STDIN",
    ),
    "syntax error": (NUMBERS, "COPY t FROM STDIN (FORMAT)x"),
    "syntax error behind text": (NUMBERS, "COPY t FORM STDIN"),
    "unknown format": (NUMBERS, "COPY t FROM STDIN (FORMAT json)"),
    "unknown option": (NUMBERS, "COPY t FROM STDIN (FANCY)"),
    "option twice": (NUMBERS, "COPY t FROM STDIN (FORMAT csv, FORMAT csv)"),
    "long delimiter": (NUMBERS, "COPY t FROM STDIN (DELIMITER '||')"),
    "letter as delimiter": (NUMBERS, "COPY t FROM STDIN (DELIMITER 'a')"),
    "newline as delimiter": (NUMBERS, "COPY t FROM STDIN (DELIMITER E'\\n')"),
    "delimiter in the null marker": (NUMBERS, "COPY t FROM STDIN (DELIMITER ',', NULL 'a,b')"),
    "quote in text": (NUMBERS, "COPY t FROM STDIN (QUOTE '$')"),
    "quote is the delimiter": (NUMBERS, "COPY t FROM STDIN (FORMAT csv, QUOTE ',')"),
    "long quote": (NUMBERS, "COPY t FROM STDIN (FORMAT csv, QUOTE '$$')"),
    "empty escape": (NUMBERS, "COPY t FROM STDIN (FORMAT csv, ESCAPE '')"),
    "force_quote": (NUMBERS, "COPY t FROM STDIN (FORMAT csv, FORCE_QUOTE *)"),
    "force_null in text": (NUMBERS, "COPY t FROM STDIN (FORCE_NULL (k))"),
    "force_null of an unknown column": (NUMBERS, "COPY t FROM STDIN (FORMAT csv, FORCE_NULL (w))"),
    "header in binary": (NUMBERS, "COPY t FROM STDIN (FORMAT binary, HEADER)"),
    "delimiter in binary": (NUMBERS, "COPY t FROM STDIN (FORMAT binary, DELIMITER ',')"),
    "bad header": (NUMBERS, "COPY t FROM STDIN (HEADER maybe)"),
    "unknown encoding": (NUMBERS, "COPY t FROM STDIN (ENCODING 'klingon')"),
    "default and null alike": (NUMBERS, "COPY t FROM STDIN (DEFAULT 'x', NULL 'x')"),
    "on_error with a bad value": (NUMBERS, "COPY t FROM STDIN (ON_ERROR bad)"),
    "on_error in binary": (NUMBERS, "COPY t FROM STDIN (FORMAT binary, ON_ERROR ignore)"),
    "reject_limit alone": (NUMBERS, "COPY t FROM STDIN (REJECT_LIMIT 3)"),
    "where on an unknown column": (NUMBERS, "COPY t FROM STDIN WHERE w = 1"),
    "where with an aggregate": (NUMBERS, "COPY t FROM STDIN WHERE count(*) = 1"),
    "parameter": (NUMBERS, "COPY t FROM STDIN WHERE k = $1"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements_refused(arena: Arena, name: str) -> None:
    """Before any data is asked for, in PostgreSQL's words, and to each protocol."""
    ddl, sql = STATEMENTS[name]
    for copy in (
        Copy(sql, ROWS),
        Copy(sql, ROWS, protocol="extended"),
        Copy(sql, ROWS, protocol="extended, early Sync"),
        Copy(sql, ROWS, protocol="pipelined"),
        Copy(sql, ROWS, protocol="pipelined, extended"),
    ):
        outcome = arena.compare(ddl, copy)
        assert outcome.last.error is not None
        assert outcome.last.copies == []


def test_missing_key_is_refused_before_any_data(arena: Arena) -> None:
    arena.define("CREATE TABLE t (k int DEFAULT random() * 10, v text)")
    [reply] = arena.through_proxy(Copy("COPY t (v) FROM STDIN", b"a\n"))
    assert (reply.order, (reply.error or {})["C"]) == ("EZ", "0A000")
    assert "H" in (reply.error or {})


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("text", "'10.0.0.1'::inet"), ("text", "'a'::char(5)"), ("varchar(3)", "'a'::char(5)"), ("int", "1.5"),
        ("text", "'2024-01-02'::date"), ("text", "'1.5'::float8"), ("numeric", "'12.30'::money"),
        ("code", "'y'::code"),
    ],
)  # fmt: skip
def test_default_that_is_converted_is_no_constant(arena: Arena, kind: str, default: str) -> None:
    """The row holds what the conversion to the column's type makes of the literal, by DateStyle or other rules."""
    arena.define(f"CREATE DOMAIN code AS varchar(5); CREATE TABLE t (k {kind} DEFAULT {default}, v text)")
    copied, marked, inserted = arena.through_proxy(
        Copy("COPY t (v) FROM STDIN", b"a\n"),
        Copy("COPY t FROM STDIN (DEFAULT '\\D')", b"\\D\ta\n"),
        "INSERT INTO t (v) VALUES ('a')",
    )
    assert (copied.order, (copied.error or {})["C"]) == ("EZ", "0A000")
    assert (marked.error or {})["C"] == ("0A000" if arena.version >= 16 else "42601")
    assert (inserted.order, (inserted.error or {})["C"]) == ("EZ", "0A000")
    assert arena.databases.rows("SELECT * FROM t") == [[], [], []]


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("bigint", "5"), ("smallint", "-5"), ("numeric(6,2)", "1.005"), ("numeric", "7"), ("numeric", "'NaN'"),
        ("text", "5"), ("text", "1.50"), ("text", "true"), ("text", "'a '::varchar(5)"), ("char(5)", "'ab'::text"),
        ("varchar(9)", "'x' COLLATE \"C\""), ("code", "'y'"), ("timestamp", "'2024-01-02'::date"),
        ("date", "'2024-01-02 23:00'::timestamp"), ("timestamptz", "'2024-01-02 03:04:05+02'"), ("bytea", "'\\x00ff'"),
        ("boolean", "false"), ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    ],
)  # fmt: skip
def test_default_of_the_key(arena: Arena, kind: str, default: str) -> None:
    ddl = f"CREATE DOMAIN code AS varchar(5); CREATE TABLE t (k {kind} DEFAULT {default}, v text)"
    for settings in ({}, {"datestyle": "German", "timezone": "Asia/Tokyo", "options": "-c quote_all_identifiers=on"}):
        copy = Copy("COPY t (v) FROM STDIN", b"a\nb\n")
        outcome = arena.compare(ddl, copy, "INSERT INTO t (v) VALUES ('c')", settings=settings)
        assert (outcome.last.error, len(outcome.rows)) == (None, 3)


def test_default_marker_without_a_constant_is_refused(arena: Arena) -> None:
    arena.define("CREATE SEQUENCE s; CREATE TABLE t (k int DEFAULT nextval('s'), v text)")
    [reply] = arena.through_proxy(Copy("COPY t FROM STDIN (DEFAULT '\\D')", b"1\ta\n\\D\tb\n"))
    assert (reply.order, (reply.error or {})["C"], reply.line) == ("GEZ", "0A000", 2)


# Names.


def test_search_path_decides(arena: Arena) -> None:
    """`other.t` has the key l where `public.t` has k."""
    ddl = "CREATE TABLE t (k int, l int); CREATE SCHEMA other; CREATE TABLE other.t (k int, l int)"
    data = b"".join(b"%d\t%d\n" % (n, 100 - n) for n in range(40))
    for table, steps in {
        "t": (PLAIN,),
        "other.t": ("SET search_path TO other, public", PLAIN),
    }.items():
        outcome = arena.compare(ddl, *steps[:-1], Copy(steps[-1], data), table=table)
        assert len(outcome.rows) == 40
    arena.compare(ddl, Copy("COPY other.t FROM STDIN", data), table="other.t")
    arena.compare(ddl, "BEGIN", "SET LOCAL search_path TO other", Copy(PLAIN, data), "COMMIT", Copy(PLAIN, data))
    arena.compare(ddl, Copy(PLAIN, data), table="other.t", settings={"options": "-c search_path=other"})
    arena.compare(ddl, "SET search_path TO 'no such schema'", Copy(PLAIN, data))


def test_quoted_table(arena: Arena) -> None:
    ddl = 'CREATE TABLE "My Table" (v text, "K k" int); CREATE TABLE t (k int)'
    data = b"".join(b"v%d\t%d\n" % (n, n) for n in range(40))
    arena.compare_ways(ddl, 'COPY "My Table" FROM STDIN', data, table="My Table")
    arena.compare_ways(ddl, 'COPY public."My Table" ("K k", v) FROM STDIN', b"1\ta\n2\tb\n", table="My Table")
    outcome = arena.compare_ways(ddl, 'COPY "My Table" FROM STDIN', data + b"x\ty\n", table="My Table")
    assert outcome.last.line == 41


def test_name_with_digits_in_context(arena: Arena) -> None:
    """A trigger's own CONTEXT, with a line number of its own, stands in front of COPY's."""
    ddl = (
        NUMBERS + "; CREATE FUNCTION t7() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.k = 33 THEN "
        "RAISE EXCEPTION 'not t, line 3' USING HINT = 'h', DETAIL = 'd', ERRCODE = '22022', COLUMN = 'c'; END IF; "
        "RETURN NEW; END$$; CREATE TRIGGER t7 BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION t7()"
    )
    outcome = arena.compare_ways(ddl, PLAIN, ROWS)
    assert outcome.last.line == 34


def test_after_trigger_has_no_line_of_its_own(arena: Arena) -> None:
    ddl = (
        NUMBERS + "; CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.k = 33 THEN "
        "RAISE EXCEPTION 'no'; END IF; RETURN NEW; END$$; "
        "CREATE TRIGGER no AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()"
    )
    outcome = arena.compare_ways(ddl, PLAIN, ROWS)
    assert (outcome.last.error or {})["C"] == "P0001"


def test_foreign_key_has_no_line(arena: Arena) -> None:
    ddl = (
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(0, 30); "
        "CREATE TABLE t (k int REFERENCES parent, v text)"
    )
    arena.compare_ways(ddl, PLAIN, ROWS[: ROWS.index(b"32")])


def test_partitioned_table(arena: Arena) -> None:
    ddl = (
        "CREATE TABLE t (k int, v text) PARTITION BY RANGE (k); "
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (20); "
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (20) TO (35)"
    )
    arena.compare_ways(ddl, PLAIN, ROWS[: ROWS.index(b"35")])
    outcome = arena.compare_ways(ddl, PLAIN, ROWS)
    assert ((outcome.last.error or {})["C"], outcome.last.line) == ("23514", 36)


def test_view(arena: Arena) -> None:
    """A view is no table to be sharded: refused in words, with a trigger to take its rows and without."""
    view = "CREATE TABLE base (k int, v text); CREATE VIEW t AS SELECT * FROM base; "
    trigger = (
        "CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO base VALUES (NEW.*); RETURN NEW; END$$; "
        "CREATE TRIGGER instead INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION instead()"
    )
    for ddl in (view, view + trigger):
        arena.define(ddl)
        [reply] = arena.through_proxy(Copy(PLAIN, ROWS))
        assert reply.order == "EZ"
        assert "view" in (reply.error or {})["M"]


# Placements.


def test_two_key_columns(arena: Arena) -> None:
    data = b"".join(
        b"%b\t%d\tv\n" % (b"\\N" if n % 7 == 0 else b"x%d" % n, n % 5) if n % 11 else b"\\N\t\\N\tv\n"
        for n in range(60)
    )
    for kinds in ("k text, l int", "l int, k text", "k text, l smallint", "k char(4), l bigint"):
        columns = kinds + ", v text"
        sql = "COPY two (k, l, v) FROM STDIN"
        outcome = arena.compare_ways(f"CREATE TABLE two ({columns})", sql, data, table="two")
        assert len(outcome.rows) == 60


def test_reference_table(arena: Arena) -> None:
    outcome = arena.compare_ways("CREATE TABLE ref (k int, v text)", "COPY ref FROM STDIN", ROWS, table="ref")
    assert outcome.last.tags == ["COPY 40"]
    outcome = arena.compare_ways(
        "CREATE TABLE ref (k int PRIMARY KEY, v text)", "COPY ref FROM STDIN", ROWS + b"x\ty\n", table="ref"
    )
    assert outcome.last.line == 41


def test_single_table(arena: Arena) -> None:
    arena.compare_ways("CREATE TABLE one (k int, v text)", "COPY one FROM STDIN", ROWS, table="one")
    outcome = arena.compare_ways("CREATE TABLE one (k int, v int)", "COPY one FROM STDIN", ROWS, table="one")
    assert outcome.last.line == 1


def test_list_placement(arena: Arena) -> None:
    data = b"a\t1\nb\t2\nc\t3\n\\N\t4\n\t5\n\xc3\xa4\t6\n" * 3
    arena.compare_ways("CREATE TABLE lst (k text, v int)", "COPY lst FROM STDIN", data, table="lst")


def test_range_placement(arena: Arena) -> None:
    data = b"".join(b"%d\tv\n" % n for n in range(-10, 30))
    arena.compare_ways("CREATE TABLE rng (k int, v text)", "COPY rng FROM STDIN", data, table="rng")


def test_default_shard_of_a_list(arena: Arena) -> None:
    keys = b"1|1.00|inf|nan|\\N|-inf|2|1e0|1.0000001|0x1".split(b"|")
    data = b"".join(b"%b\t%d\n" % (key, n) for n, key in enumerate(keys))
    arena.compare_ways("CREATE TABLE rest (k numeric, v int)", "COPY rest FROM STDIN", data, table="rest")


def test_edges_of_ranges(arena: Arena) -> None:
    """MINVALUE and MAXVALUE lie beyond every value, the infinite ones too; NULL is in no range."""
    days = b"-infinity|0044-03-15 BC|2023-12-31|2024-01-01|infinity|\\N".split(b"|")
    data = b"".join(b"%b\t%b\tv\n" % (key, day) for key in (b"0", b"1", b"2", b"3", b"\\N") for day in days)
    ddl = "CREATE TABLE edges (k int, l date, v text)"
    outcome = arena.compare_ways(ddl, "COPY edges FROM STDIN", data, table="edges")
    assert len(outcome.rows) == 30


@pytest.mark.parametrize(
    ("table", "ddl", "data"),
    [
        ("lst", "CREATE TABLE lst (k text, v int)", b"a\t1\nb\t2\nd\t3\n"),
        ("rng", "CREATE TABLE rng (k int, v int)", b"1\t1\n29\t2\n030\t3\n"),
        ("rng", "CREATE TABLE rng (k int, v int)", b"1\t1\n29\t2\n\\N\t3\n"),
    ],
)
def test_no_shard_for_a_key(arena: Arena, table: str, ddl: str, data: bytes) -> None:
    """23514 as PostgreSQL's partitioning says it: an oracle that is a partitioned table says the same."""
    copy = Copy(f"COPY {table} FROM STDIN", data)
    arena.define(ddl)
    [reply] = arena.through_proxy(copy)
    assert arena.databases.rows(f"SELECT * FROM {table}") == [[], [], []]
    expected = arena.partitioned_oracle(table, copy)
    fields = "SVCMDst"  # not W: the proxy says the line, but does not keep the row to show it
    assert reply.error is not None
    assert {code: reply.error.get(code) for code in fields} == {code: expected.get(code) for code in fields}
    assert reply.line == 3


# Options.


def test_freeze(arena: Arena) -> None:
    arena.compare(NUMBERS, "BEGIN", "TRUNCATE t", Copy("COPY t FROM STDIN (FREEZE)", ROWS), "COMMIT")


def test_on_error_ignore(arena: Arena) -> None:
    """From 17; what the proxy does with it on servers up to 16 is in test_copy_rejects."""
    if arena.version < 17:
        return
    ddl = "CREATE TABLE t (k int, v int)"
    data = b"1\t1\n2\tx\n3\ty\n4\t4\nfive\t5\n6\t6\n7\tz\n" * 3
    for options in (
        "ON_ERROR ignore",
        "ON_ERROR ignore, LOG_VERBOSITY verbose",
        "ON_ERROR ignore, LOG_VERBOSITY silent",
        "ON_ERROR stop",
        "ON_ERROR ignore, REJECT_LIMIT 100",
        "ON_ERROR ignore, REJECT_LIMIT 12",
        "FORMAT csv, DELIMITER E'\\t', ON_ERROR ignore, LOG_VERBOSITY verbose",
    ):
        outcome = arena.compare_ways(ddl, f"COPY t FROM STDIN ({options})", data)
        assert (len(outcome.rows) > 0) == (arena.version >= 18 and "ignore" in options), options


def test_on_error_ignore_of_one_row(arena: Arena) -> None:
    if arena.version < 17:
        return
    ddl = "CREATE TABLE t (k int, v int)"
    arena.compare_ways(ddl, "COPY t FROM STDIN (ON_ERROR ignore)", b"1\t1\n2\tx\n3\t3\n")
    arena.compare_ways(ddl, "COPY t FROM STDIN (ON_ERROR ignore)", b"1\t1\n")


def test_reject_limit_is_the_whole_input_s(arena: Arena) -> None:
    """No shard reaches the limit alone, and the row that is over it is named."""
    ddl = "CREATE TABLE t (k int, v int)"
    data = b"".join(b"%d\tx\n" % n for n in range(9))
    if arena.version >= 18:
        for limit in (3, 8, 9):
            for verbosity in ("default", "verbose", "silent"):
                options = f"ON_ERROR ignore, REJECT_LIMIT {limit}, LOG_VERBOSITY {verbosity}"
                arena.compare(ddl, Copy(f"COPY t FROM STDIN ({options})", data))


def test_what_ends_it_first_in_the_order_of_lines(arena: Arena) -> None:
    """The race: the shard that has a row which ends the COPY is done before one that has a row to skip."""
    if arena.version < 18:
        return
    ddl = "CREATE TABLE t (k int, v int)"
    good, bad = ([b"%d\t%s\n" % (n, value) for n in range(12)] for value in (b"1", b"x"))
    for rows in (
        [*good[:2], bad[2], bad[3], good[4], b"5\t1\t1\n", *good[6:]],
        [*good[:3], *bad[3:9], b"9\t1\t1\n", *good[10:]],
        [*good[:3], bad[3], *good[4:6], b"6\t1\t1\n", bad[7], bad[8]],
        [*good[:3], bad[3], *good[4:6], b"6\n", b"7\n", bad[8]],
    ):
        for limit in (1, 2):
            options = f"ON_ERROR ignore, REJECT_LIMIT {limit}, LOG_VERBOSITY verbose"
            arena.compare(ddl, Copy(f"COPY t FROM STDIN ({options})", b"".join(rows)))


# Encodings.


def test_latin1_data(arena: Arena) -> None:
    """A text key is hashed in the server's encoding, whichever the client's is."""
    ddl = "CREATE TABLE t (k text, v text)"
    data = bytes(range(0xA1, 0x100)).replace(b"", b"\tx\n")[3:] + b"\\xc3\\xa4\ty\n"
    rows = b"".join(b"%c\tx\n" % code for code in range(0xA1, 0x100))
    for sql, settings in (
        ("COPY t FROM STDIN (ENCODING 'latin1')", {}),
        ("COPY t FROM STDIN (ENCODING 'ISO-8859-1')", {"client_encoding": "UTF8"}),
        (PLAIN, {"client_encoding": "LATIN1"}),
        ("COPY t FROM STDIN (FORMAT csv, DELIMITER E'\\t')", {"client_encoding": "latin-1"}),
    ):
        arena.compare_ways(ddl, sql, rows, settings=settings)
    arena.compare_ways(ddl, PLAIN, data, settings={"client_encoding": "LATIN1"})
    arena.compare(ddl, "SET client_encoding TO latin1", Copy(PLAIN, rows))
    arena.compare(ddl, "SET client_encoding TO 'win1252'", Copy(PLAIN, rows))
    outcome = arena.compare(ddl, "SET NAMES 'koi8r'", Copy(PLAIN, rows))
    assert len(outcome.rows) == 0xFF - 0xA0


def test_markers_are_in_the_statement_s_encoding(arena: Arena) -> None:
    """ENCODING is that of the data alone: PostgreSQL compares the two after it has converted both."""
    ddl = "CREATE TABLE t (k text DEFAULT 'dflt', v text DEFAULT 'w')"
    rows = "ä\t1\nö\t2\nx\tä\näö\t3\n\\N\t4\n"
    for client, data in (("utf8", "latin1"), ("latin1", "utf8"), ("latin1", "latin1"), ("utf8", "koi8r")):
        lines = (
            [line for line in rows.splitlines(True) if "ä" not in line] if data == "koi8r" else rows.splitlines(True)
        )
        for options in ("NULL 'ä'", "DEFAULT 'ä', NULL 'ö'", "FORMAT csv, DELIMITER E'\\t', NULL 'ä', FORCE_NULL (k)"):
            sql = f"COPY t FROM STDIN ({options}, ENCODING '{data}')".encode(client)
            encoded = "".join(lines).encode("koi8-r" if data == "koi8r" else data, "replace")
            outcome = arena.compare_ways(ddl, sql, encoded, settings={"client_encoding": client})
            assert outcome.last.error is None
    for marker in "яä":
        sql = f"COPY t FROM STDIN (NULL '{marker}', ENCODING 'koi8r')".encode()
        arena.compare_ways(ddl, sql, "я\t1\n\xa0\tя\n".encode("koi8-r"))


def test_marker_that_cannot_be_converted_for_sure(arena: Arena) -> None:
    arena.define("CREATE TABLE t (k text, v text); CREATE TABLE ref (k text, v text)")
    data = "表\t1\n".encode("euc_jp")
    reply, reference = arena.through_proxy(
        Copy("COPY t FROM STDIN (NULL '表', ENCODING 'euc_jp')", data),
        Copy("COPY ref FROM STDIN (NULL '表', ENCODING 'euc_jp')", data),
    )
    assert (reply.order, (reply.error or {})["C"]) == ("EZ", "0A000")
    assert "H" in (reply.error or {})
    assert reference.tags == ["COPY 1"]


@pytest.mark.parametrize("option", ["DELIMITER 'ä'", "FORMAT csv, QUOTE 'ä'", "FORMAT csv, ESCAPE 'ä'"])
def test_single_bytes_beyond_ascii(arena: Arena, option: str) -> None:
    """One byte for a client of LATIN1, two for a server of UTF8, which refuses them."""
    for client in ("utf8", "latin1"):
        for protocol in PROTOCOLS:
            copy = Copy(f"COPY t FROM STDIN ({option})".encode(client), ROWS, protocol=protocol)
            outcome = arena.compare(NUMBERS, copy, settings={"client_encoding": client})
            assert (outcome.last.error or {})["C"] == "0A000"


def test_encoding_of_other_columns_only(arena: Arena) -> None:
    arena.compare_ways(NUMBERS, "COPY t FROM STDIN (ENCODING 'latin1')", b"1\t\xe4\n2\t\xf6\n")
    arena.compare_ways(NUMBERS, "COPY t FROM STDIN (ENCODING 'euc_jp')", b"1\t\xa4\xa2\n2\t\xa4\xa4\n")
    arena.compare_ways(NUMBERS, "COPY t FROM STDIN (ENCODING 'euc_jp')", b"1\t\xa4\xa2\n2\t\xa4\n")


@pytest.mark.parametrize(
    "encoding", ["SJIS", "Shift_JIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "WIN949"]
)
def test_encodings_with_ascii_tails_are_refused(arena: Arena, encoding: str) -> None:
    """A backslash or a quote may be the second half of a character there; nothing is split on bytes."""
    arena.define(NUMBERS)
    data = "1\t表\n2\tソ\n".encode("sjis")
    by_option, set_reply, by_setting = arena.through_proxy(
        Copy(f"COPY t FROM STDIN (ENCODING '{encoding}')", data),
        f"SET client_encoding TO '{encoding}'",
        Copy(PLAIN, data),
    )
    if set_reply.error is not None:
        assert set_reply.error["C"] == "22023"  # an alias that only iconv knows
        return
    for reply in (by_option, by_setting):
        assert (reply.order, (reply.error or {})["C"]) == ("EZ", "0A000")
        assert "H" in (reply.error or {})
    assert arena.databases.rows("SELECT * FROM t") == [[], [], []]


def test_binary_in_an_encoding_with_ascii_tails(arena: Arena) -> None:
    row = b"\0\2\0\0\0\4\0\0\0\1" + b"\0\0\0\2" + "表".encode("sjis")
    data = b"PGCOPY\n\xff\r\n\0" + bytes(8) + row + b"\xff\xff"
    arena.compare(NUMBERS, Copy("COPY t FROM STDIN (FORMAT binary, ENCODING 'sjis')", data))


def test_multibyte_encoding_of_a_text_key(arena: Arena) -> None:
    """ASCII keys are the same in any of them; others are refused rather than hashed wrong."""
    ddl = "CREATE TABLE t (k text, v text)"
    sql = "COPY t FROM STDIN (ENCODING 'euc_jp')"
    arena.compare_ways(ddl, sql, b"a\t\xa4\xa2\nb\tc\n")
    arena.define(ddl)
    [reply] = arena.through_proxy(Copy(sql, b"a\tb\n\xa4\xa2\tc\n"))
    assert (reply.order, (reply.error or {})["C"], reply.line) == ("GEZ", "0A000", 2)


# One shard only.


def one_shard(arena: Arena, ddl: str, *steps: Copy | str) -> list[Reply]:
    arena.define(NUMBERS)
    arena.on_shard(1, ddl)
    return arena.through_proxy(*steps)


def test_table_missing_on_one_shard(arena: Arena) -> None:
    protocols: list[Protocol] = ["simple", "extended", "pipelined"]
    for protocol in protocols:
        [reply] = one_shard(arena, "DROP TABLE t", Copy(PLAIN, ROWS, protocol=protocol))
        assert (reply.error or {})["C"] == "42P01"
        assert '"s1"' in (reply.error or {})["D"]


def test_columns_differ_on_one_shard(arena: Arena) -> None:
    [reply] = one_shard(arena, "ALTER TABLE t ADD w int", Copy(PLAIN, ROWS))
    assert (reply.error or {})["C"] == "55000"
    assert "H" in (reply.error or {})


def test_one_shard_refuses_the_copy(arena: Arena) -> None:
    """The others wait in COPY IN by then: all end, one error, no hang."""
    where = "COPY t FROM STDIN WHERE wanted(k)"
    wanted = "CREATE FUNCTION wanted(int) RETURNS boolean LANGUAGE sql AS 'SELECT true'"
    orders: dict[Protocol, str] = {"simple": "EZ", "extended": "12nEZ", "pipelined": "EZ"}
    for protocol, order in orders.items():
        arena.define(f"{NUMBERS}; {wanted}")
        arena.on_shard(1, "DROP FUNCTION wanted(int)")
        copy = Copy(where, ROWS, protocol=protocol)
        replies = arena.through_proxy(copy, "BEGIN", copy, "ROLLBACK", copy)
        assert [one.order for one in replies] == [order, "CZ", order, "CZ", order]
        assert [one.status for one in replies] == ["I", "T", "E", "I", "I"]
        assert (replies[0].error or {})["C"] == "42883"
        assert arena.databases.rows("SELECT * FROM t") == [[], [], []]


def test_freeze_of_an_old_table(arena: Arena) -> None:
    """Every shard refuses it, behind CopyInResponse.

    With a Sync behind Execute PostgreSQL, which fails without having read that Sync, says ReadyForQuery twice. The
    proxy has taken the Sync for part of the COPY by then, as PostgreSQL does when a row fails.
    """
    for copy in ways("COPY t FROM STDIN (FREEZE)", ROWS):
        if copy.protocol != "extended, early Sync":
            arena.compare(NUMBERS, copy)


def test_trigger_fails_on_one_shard(arena: Arena) -> None:
    [reply] = one_shard(
        arena,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not here'; END$$; "
        "CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()",
        Copy(PLAIN, ROWS),
    )
    assert (reply.order, (reply.error or {})["M"]) == ("GEZ", "not here")
    assert (reply.error or {})["D"] == 'Reported by shard "s1".'
    assert arena.databases.rows("SELECT * FROM t") == [[], [], []]


def test_deferred_constraint_fails_on_one_shard(arena: Arena) -> None:
    """It fails at the end of COPY's transaction, when every shard has accepted every row."""
    [reply] = one_shard(
        arena,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'too late'; END$$; "
        "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION no()",
        Copy(PLAIN, ROWS),
    )
    assert reply.order == "GEZ"
    assert "too late" in (reply.error or {})["M"]
