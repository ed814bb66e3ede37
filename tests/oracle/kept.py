"""Cases that differed once, each as short as it got, by a name that tells what was wrong."""

from tests.oracle.case import Case, Param, Step

_SINGLES = [Step("CREATE TABLE one (k int, s text)"), Step("CREATE TABLE two (k int, s text)")]

KEPT: dict[str, Case] = {
    "a missing table beside a single one is told by the shard that has that": [
        *_SINGLES[:1],
        Step("SELECT 1 FROM one JOIN nowhere USING (k)"),
        Step("SELECT 1 FROM one JOIN nowhere USING (k)", params=()),
        Step("EXPLAIN SELECT 1 FROM one JOIN nowhere USING (k)"),
    ],
    "tables of different shards are refused at Parse, too": [
        *_SINGLES,
        Step("SELECT 1 FROM one, two WHERE one.k = $1", params=(Param(0, b"1"),)),
        Step("DELETE FROM one USING two WHERE two.k = $1", params=(Param(0, b"1"),), describe="S"),
    ],
    "a parameter under a cast is rounded before it is a key": [
        Step("CREATE TABLE h (k numeric, v int)"),
        *(Step(f"INSERT INTO h VALUES ({key}, {key})") for key in (4, 5, 6, 8)),
        Step("INSERT INTO h VALUES ($1::int, 9)", params=(Param(1700, b"8.6"),)),
        Step("INSERT INTO h VALUES ($1::int8, 9)", params=(Param(701, b"8.6"),)),
        Step("SELECT v FROM h WHERE k = $1::int", params=(Param(1700, b"5.7"),)),
        Step("SELECT v FROM h WHERE k = $1::int", params=(Param(701, b"5.7"),)),
        Step("SELECT v FROM h WHERE k = 5.7::int"),
        Step("SELECT v FROM h WHERE k = 4.5::numeric(2,0)"),
    ],
    "an aggregate in functional notation is an aggregate": [
        Step("CREATE TABLE h (k int, v int)"),
        *(Step(f"INSERT INTO h VALUES ({key}, 1)") for key in range(3)),
        *(
            Step(f"SELECT {item} FROM h{tail}")
            for item, tail in (
                ("h.count", ""),
                ("(h).count", ""),
                ("(h).json_agg", ""),
                ("(h.*).count", ""),
                ("((h)).count", ""),
                ("(ROW(k)).count", ""),
                ("(v).count", ""),
                ("(k).sum", ""),
                ("(public.h.k).max", ""),
                ("1", " HAVING (h).count > 1"),
                ("1", " ORDER BY (h).count"),
                ("h.count", ", ref"),
            )
        ),
    ],
    "an alias within an aliased join is not seen outside of it": [
        Step("CREATE TABLE h (k int, v int)"),
        Step("CREATE TABLE ref (k int, v int)"),
        *(Step(f"INSERT INTO h VALUES ({key}, {key})") for key in range(9)),
        *(Step(f"INSERT INTO ref VALUES ({key}, {key})") for key in range(3)),
        Step("SELECT count(*) FROM (h AS x CROSS JOIN ref AS r) AS y CROSS JOIN h AS x WHERE x.k = 5"),
        Step("SELECT 1 FROM (h x JOIN ref r USING (k)) AS y, ref x WHERE x.k = 5"),
        Step("SELECT 1 FROM (ref x JOIN ref r USING (k)) AS y, h x WHERE x.k = 2"),
        Step("SELECT 1 FROM (h x JOIN ref r USING (k)) AS y, h x WHERE x.k = 2 AND y.k = 2"),
        Step("SELECT 1 FROM h x JOIN ref r USING (k) AS j WHERE j.k = 2"),
        Step("SELECT x.v FROM (h JOIN ref USING (k)) AS x(v, k) WHERE v = 2"),
        Step("DELETE FROM h AS x USING (ref x2 JOIN ref USING (k)) AS k WHERE x.k = k.k"),
        Step("UPDATE h AS v SET v = 1 WHERE v.k = 3"),
    ],
    "columns that an alias renames are other columns": [
        Step("CREATE TABLE h (k int, v int)"),
        *(Step(f"INSERT INTO h VALUES ({key}, {8 - key})") for key in range(9)),
        *(
            Step(f"SELECT 1 FROM h AS x({names}) WHERE {where}")
            for names, where in (("a, b", "x.a = 5"), ("v, k", "x.k = 5"), ("v, k", "k = 5"), ("v", "k = 5"))
        ),
    ],
    "a prepared statement means what it meant at Parse, on every shard": [
        Step("CREATE TABLE h (k int, d timestamptz, s text)"),
        *(Step(f"INSERT INTO h VALUES ({key}, '2024-01-0{key + 1}', 'x')") for key in range(8)),
        *(
            step
            for name, sql, settings in (
                (
                    "a",
                    "SELECT '01/02/2024'::date, d < '03/01/2024' FROM h WHERE k = $1",
                    ("DateStyle", "DMY", "German"),
                ),
                (
                    "b",
                    "SELECT d < '2024-01-05 00:00:00' FROM h WHERE k = $1",
                    ("TimeZone", "Japan", "America/New_York"),
                ),
                ("c", r"SELECT 'a\\b' FROM h WHERE k = $1", ("standard_conforming_strings", "off", "on")),
            )
            for key in range(8)
            for step in (
                Step(sql, params=(Param(23, b"%d" % key),), name=name),
                Step(f"SET {settings[0]} = '{settings[1 + key % 2]}'"),
            )
        ),
    ],
    "a text key from a number is written as the number is": [
        Step("CREATE TABLE h (k text, v int)"),
        *(
            Step(f"INSERT INTO h VALUES ({key}, 1)")
            for key in (
                "00000008888888888",
                "0x10",
                "1_000",
                "1.50",
                "-5",
                "-05",
                "- 5",
                "1e3",
                "true",
                "99999999999999999999999",
                "00099999999999999999999999",
                "09999999999::text",
                "0x11::text",
                "1_0::text",
                "1.50::text",
                "(-5)::text",
                "true::text",
                "'t'::bool",
                "'t'::bool::text",
                "'2024-1-1'::date",
                "null::date",
            )
        ),
        *(Step(f"SELECT * FROM h WHERE k = {key}::text") for key in ("09999999999", "007", "0x10", "8888888888")),
    ],
    "a parameter of the user's own type is known on every shard": [
        Step("CREATE TYPE mood AS ENUM ('sad', 'ok')"),
        Step("CREATE TYPE point2 AS (x int, y int)"),
        Step("CREATE TABLE h (k int, m mood, p point2, a mood[])"),
        *(
            step
            for key in range(6)
            for step in (
                Step(
                    "INSERT INTO h VALUES ($1, $2, $3, $4)",
                    name="i",
                    params=(Param(23, b"%d" % key), Param(0, b"ok"), Param(0, b"(1,2)"), Param(0, b"{sad,ok}")),
                ),
                Step(
                    "SELECT k FROM h WHERE k = $1 AND m = $2",
                    name="s",
                    params=(Param(0, key.to_bytes(4, "big"), True), Param(0, b"ok")),
                ),
                Step(
                    "UPDATE h SET m = $2 WHERE k = $1",
                    params=(Param(0, key.to_bytes(4, "big"), True), Param(0, b"sad", True)),
                ),
            )
        ),
        Step("SELECT k FROM h WHERE m = $1", params=(Param(0, b"sad"),)),
    ],
    "a COPY whose row is refused ends where it has no row": [
        Step("CREATE TABLE lst (k text, v int, s text)"),
        Step("COPY lst FROM STDIN", data=b"\xc3\xa4\tx\tb\n1\t1\tA\n\t7\ta\n"),
        Step("COPY lst FROM STDIN", data=b"\xc3\xa4\t3\tb\n1\t1\tA\n\t7\ta\n"),
    ],
    "a notice tells its position in the whole Query": [
        Step("CREATE TYPE shell"),
        Step("  CREATE FUNCTION f(shell) RETURNS cstring LANGUAGE internal STRICT IMMUTABLE AS 'int4out'"),
        Step("SELECT 1; CREATE FUNCTION g(shell) RETURNS cstring LANGUAGE internal STRICT IMMUTABLE AS 'int4out'"),
        Step(" CREATE FUNCTION h(shell) RETURNS cstring LANGUAGE internal STRICT IMMUTABLE AS 'int4out'", params=()),
    ],
    "all of a Query is read before any of it is run": [
        Step("CREATE TABLE h (k text, v int)"),
        Step(r"SET standard_conforming_strings = off; SELECT 'a\\b'"),
        Step("BEGIN"),
        Step(r"SET LOCAL standard_conforming_strings = off; INSERT INTO h VALUES ('a\\b', 1)"),
        Step("ROLLBACK"),
        Step(r"SET standard_conforming_strings = off; SELECT 'a'"),
    ],
    "rows stay where they are while their key has another name": [
        Step("CREATE TABLE w (k int, l int, v int)"),
        *(Step(f"INSERT INTO w VALUES ({key}, 1, 2)") for key in range(4)),
        Step("ALTER TABLE w RENAME l TO renamed"),
    ],
    "a trigger of a reference table that adds rows to it": [
        Step("CREATE TABLE dim (k text DEFAULT 'x', v int)"),
        Step(
            "CREATE FUNCTION fire0() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF pg_trigger_depth() = 1 THEN "
            "INSERT INTO dim (v) VALUES (3); END IF; RETURN NEW; END $$"
        ),
        Step("CREATE TRIGGER tr0 BEFORE INSERT OR UPDATE ON dim FOR EACH ROW EXECUTE FUNCTION fire0()"),
        Step("INSERT INTO dim (k, v) VALUES (1::text, $1::int4)", params=(Param(1700, b"7"),)),
    ],
    "RETURNING calls the old row of a reference table as it likes": [
        Step("CREATE TABLE ref (k int PRIMARY KEY, v int)"),
        Step("INSERT INTO ref VALUES (1, 1), (2, 2), (3, 30)"),
        Step("UPDATE ref SET k = k + 10, v = v + 1 RETURNING WITH (OLD AS o, NEW AS n) o.k, n.k, o.v"),
        Step("UPDATE ref SET k = k + 10 WHERE v > 2 RETURNING WITH (NEW AS n) old.*, n.*, ref.*"),
        Step("INSERT INTO ref VALUES (11, 2) ON CONFLICT (k) DO UPDATE SET v = 5 RETURNING WITH (OLD AS o) o.v"),
        Step("UPDATE ref AS old SET k = k + 100 WHERE k < 20"),
        Step("UPDATE ref SET k = ref.k + 1 FROM (VALUES (22), (12)) AS old(k) WHERE old.k + 88 < ref.k"),
        Step("UPDATE ref SET k = ref.k + 1 FROM (VALUES (22)) AS old(k) WHERE old.k <> ref.k RETURNING old.k, new.k"),
        Step(
            "MERGE INTO ref AS old USING (VALUES (11, 5), (8, 8)) x(k, v) ON old.k = x.k"
            " WHEN MATCHED THEN UPDATE SET v = x.v WHEN NOT MATCHED THEN INSERT VALUES (x.k, x.v) RETURNING old.k"
        ),
    ],
    "one shard is named that refuses what another has done to a reference table": [
        Step("CREATE TABLE ref (k int PRIMARY KEY)"),
        Step("CREATE TABLE h (k int, v int REFERENCES ref ON DELETE RESTRICT)"),
        Step("INSERT INTO ref VALUES (1), (2), (3)"),
        Step("COPY h FROM STDIN", data=b"".join(b"%d\t%d\n" % (key, key % 3 + 1) for key in range(9))),
        *(Step(f"INSERT INTO h VALUES ({key}, 1)") for key in range(9)),
        *(Step(f"DELETE FROM h WHERE k = {key} AND v < 3") for key in range(9)),
        Step("DELETE FROM ref WHERE k = 1"),
        *(
            step
            for key in range(9)
            for step in (
                Step(f"INSERT INTO h VALUES ({key}, 2)"),
                Step("DELETE FROM ref WHERE k = 2"),
                Step(f"DELETE FROM h WHERE k = {key}"),
            )
        ),
    ],
    "PREPARE reads a statement with parameters before it looks at its name": [
        *_SINGLES,
        Step("PREPARE q (int) AS SELECT k FROM one WHERE k = $1"),
        Step("PREPARE q AS SELECT WHERE nowhere.k = $1"),
        Step("PREPARE q (int) AS INSERT INTO two VALUES ($1 || 'x')"),
        Step("SELECT 1; PREPARE q (text, int) AS INSERT INTO two VALUES ($2, $3)"),
        Step("PREPARE q (int) AS SELECT k FROM two WHERE k = $1"),
        Step("EXECUTE q (1)"),
        Step("SELECT k FROM two WHERE k = $1", name="q", params=(Param(23, b"1"),)),
        Step("PREPARE q (int, int) AS SELECT $1, $2"),
        Step("DEALLOCATE q"),
        Step("PREPARE q (int, int) AS SELECT $1, $2"),
        Step("EXECUTE q (1, 2)"),
    ],
    "a statement has ended before its commit fails at Sync": [
        Step("CREATE TABLE ref (k int PRIMARY KEY)"),
        *(
            Step(f"CREATE TABLE {name} (k int, v int REFERENCES ref DEFERRABLE INITIALLY DEFERRED)")
            for name in ("h", "dim")
        ),
        Step("CREATE TABLE one (k int PRIMARY KEY, v int REFERENCES one DEFERRABLE INITIALLY DEFERRED)"),
        *(
            step
            for name in ("h", "dim", "one")
            for tail in ("", " RETURNING v")
            for step in (
                *[Step(f"INSERT INTO {name} VALUES (1, $1){tail}", params=(Param(23, b"7"),))] * 3,
                Step(f"INSERT INTO {name} VALUES (1, $1){tail}", params=(Param(23, b"7"),), name="p", pieces=1),
                Step(f"INSERT INTO {name} VALUES (1, 7){tail}"),
                Step(f"INSERT INTO {name} VALUES (1, 7); INSERT INTO {name} VALUES (2, 7){tail}"),
                Step("BEGIN"),
                Step(f"INSERT INTO {name} VALUES (1, $1){tail}", params=(Param(23, b"7"),)),
                Step("COMMIT", params=()),
            )
        ),
    ],
    "a deferrable constraint is verified when all rows of a reference table have changed": [
        Step(
            "CREATE TABLE ref (k int PRIMARY KEY, v int UNIQUE DEFERRABLE, w int4range,"
            " EXCLUDE USING gist (w WITH &&) DEFERRABLE)"
        ),
        Step("INSERT INTO ref SELECT g, g, int4range(g, g + 1) FROM generate_series(1, 120) g"),
        Step("UPDATE ref SET v = v + 1"),
        Step("UPDATE ref SET v = 121 - v WHERE k > (SELECT 0)"),
        Step("UPDATE ref SET w = int4range(lower(w) + 1, upper(w) + 1)"),
        Step("UPDATE ref SET v = 7 WHERE k IN (SELECT generate_series(1, 2))"),
        Step("INSERT INTO ref VALUES (1, 1), (2, 2) ON CONFLICT (k) DO UPDATE SET v = 5 - excluded.v"),
        Step(
            "MERGE INTO ref USING (VALUES (300), (1)) x(k) ON ref.k = x.k WHEN MATCHED THEN DELETE"
            " WHEN NOT MATCHED THEN INSERT VALUES (x.k, 4)"
        ),
        Step("BEGIN"),
        Step("SET CONSTRAINTS ALL DEFERRED"),
        Step("UPDATE ref SET v = 7"),
        Step("UPDATE ref SET v = k"),
        Step("COMMIT"),
    ],
    "rows of a reference table that satisfy a constraint together alone are refused": [
        Step("CREATE TABLE ref (k int PRIMARY KEY, p int REFERENCES ref)"),
        Step("CREATE TABLE dim (k int PRIMARY KEY, p int REFERENCES ref)"),
        Step("INSERT INTO ref VALUES (3, 2), (2, 1), (1, 3)"),
        Step("INSERT INTO dim VALUES (1, 2)"),
        Step("UPDATE ref SET k = k + 100, p = p + 100 WHERE k <> 2 AND p <> 2"),
        Step("UPDATE ref SET p = NULL"),
        Step("UPDATE ref SET k = k + 1"),
        Step("DELETE FROM dim"),
        Step("UPDATE ref SET p = k"),
        Step("UPDATE ref SET k = k + 1, p = p + 1"),
        Step("ALTER TABLE ref ALTER CONSTRAINT ref_p_fkey DEFERRABLE INITIALLY DEFERRED"),
        Step("UPDATE ref SET k = k + 1, p = p + 1"),
    ],
    "what is unique in a part of a reference table, or by a generated column": [
        Step("CREATE TABLE ref (k int PRIMARY KEY, v int) PARTITION BY RANGE (k)"),
        Step("CREATE TABLE ref__0 PARTITION OF ref DEFAULT"),
        Step("CREATE UNIQUE INDEX ON ref__0 (v)"),
        Step("INSERT INTO ref SELECT g, 100 - g FROM generate_series(1, 40) g"),
        Step("DELETE FROM ref WHERE k < 20"),
        Step("INSERT INTO ref SELECT g, 200 - g FROM generate_series(1, 19) g"),
        Step("UPDATE ref SET v = v + 1"),
        Step("CREATE TABLE dim (k int PRIMARY KEY, v int, w int UNIQUE GENERATED ALWAYS AS (v + 1) STORED)"),
        Step("INSERT INTO dim SELECT k, v FROM ref ORDER BY v DESC"),
        Step("UPDATE dim SET v = v + 1"),
    ],
    "a key does not tell the rows of a reference table from those of its children": [
        Step("CREATE TABLE ref (k int PRIMARY KEY, v int)"),
        Step("CREATE TABLE dim (k int PRIMARY KEY, v int)"),
        Step("INSERT INTO ref VALUES (1, 1), (2, 2), (3, 3)"),
        Step("INSERT INTO dim VALUES (1, 5), (4, 6)"),
        Step("ALTER TABLE dim ALTER k SET NOT NULL"),
        Step("ALTER TABLE dim INHERIT ref"),
        Step("UPDATE ref SET v = v + (SELECT 1)"),
        Step("UPDATE ref SET v = v + 1"),
        Step("UPDATE ref SET v = 50 WHERE v = (SELECT 7)"),
        Step("DELETE FROM ref WHERE v = (SELECT 50)"),
        Step("DELETE FROM ref WHERE k = 1 AND v = 6"),
        Step("INSERT INTO ref VALUES (4, 1), (2, (SELECT 1)) ON CONFLICT (k) DO UPDATE SET v = excluded.v"),
        Step("INSERT INTO ref SELECT k + 10, v FROM ref"),
        Step("UPDATE dim SET v = v + (SELECT 1)"),
        Step("ALTER TABLE dim NO INHERIT ref"),
        Step("UPDATE ref SET v = v + (SELECT 1)"),
    ],
    "a row of a table of one shard keeps the row of a reference table to which it refers": [
        Step("CREATE TABLE ref (k int PRIMARY KEY, v int)"),
        Step("CREATE TABLE two (k int, p int REFERENCES ref)"),
        Step("CREATE TABLE h (k int, p int REFERENCES ref ON UPDATE CASCADE)"),
        Step("INSERT INTO ref VALUES (1, 1), (2, 2), (3, 3)"),
        Step("INSERT INTO two VALUES (1, 1)"),
        Step("INSERT INTO h VALUES (1, 2), (2, 2), (3, 2)"),
        *(Step(f"DELETE FROM ref WHERE k = {key}", params=params) for key in (1, 2) for params in (None, ())),
        Step("DELETE FROM ref WHERE v = (SELECT 1)"),
        Step("UPDATE ref SET k = k + 10 WHERE k = 1"),
        Step("DELETE FROM ref WHERE k = 3"),
    ],
}
