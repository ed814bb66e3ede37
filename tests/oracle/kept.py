"""Cases that differed once, each as short as it got, by a name that tells what was wrong."""

from collections.abc import Sequence

from tests.oracle.case import Case, Param, Step
from tests.oracle.sequences import Pipeline, Sent

_FAILED = [
    Sent("query", b"BEGIN"),
    Sent("parse", "", b"SELECT k / 0 FROM ref WHERE k = 1", ()),
    Sent("bind", "", "", ()),
]

KEPT_PIPELINES: dict[str, Sequence[Pipeline]] = {
    "a statement is read before its name is looked at": [
        Pipeline([Sent("parse", "n", b"SELECT k FROM h WHERE k = $1", (23,))]),
        *(
            Pipeline([Sent("parse", "n", sql, ()), Sent("sync"), Sent("bind", "", "n", (b"1",))])
            for sql in (
                b"SELECT nonsense FROM h",
                b"SELECT 1 FROM nowhere",
                b"SELECT 2",
                b"BEGIN",
                b"COPY h FROM STDIN",
            )
        ),
        Pipeline([Sent("query", b"PREPARE n AS SELECT nonsense FROM h"), Sent("query", b"PREPARE n AS SELECT 2")]),
    ],
    "DECLARE outside of a transaction block is refused before its name is looked at": [
        Pipeline([Sent("parse", "n2", b"ANALYZE h", ()), Sent("sync"), Sent("bind", "c", "n2", ())]),
        Pipeline(
            [
                Sent("parse", "n2", b"ANALYZE h", ()),
                Sent("bind", "c", "n2", ()),
                Sent("parse", "", b"DECLARE c CURSOR FOR SELECT k FROM one ORDER BY k", ()),
                Sent("bind", "", "", ()),
                Sent("execute", "", 0),
            ]
        ),
    ],
    "a portal stands if the statement that was to have its name is not accepted": [
        Pipeline(
            [
                Sent("parse", "b", b"BEGIN", ()),
                Sent("bind", "", "b", ()),
                Sent("execute", "", 0),
                *first,
                Sent("parse", "n", b"SELECT nonsense FROM h WHERE k = $1", (23,)),
                Sent("bind", name, "n", (b"1",)),
                *second,
                Sent("sync"),
                Sent("describe", "P", name),
            ]
        )
        for name in ("", "q")
        for first in (
            [],
            [Sent("parse", "m", b"SELECT k FROM h WHERE k = $1", (23,)), Sent("bind", "", "m", (b"1",))],
            [Sent("parse", "m", b"SELECT 1", ()), Sent("bind", "", "m", ()), Sent("execute", "", 0)],
        )
        for second in ([], [Sent("execute", name, 0)], [Sent("bind", "", "n", (b"2",)), Sent("execute", "", 0)])
    ],
    "a Query that fails while it is planned has no portal": [
        Pipeline([Sent("query", b"BEGIN"), Sent("query", sql), Sent("describe", "P", "")])
        for sql in (
            b"SELECT 1/0",
            b"SELECT k / 0 FROM h WHERE k = 7",
            b"SELECT k / 0 FROM h",
            b"SELECT 1 / (k - k) FROM one",
            b"INSERT INTO h VALUES (70, 'x'); SELECT 1/0",
            b"INSERT INTO h VALUES (7, 'x')",
        )
    ],
    "a portal ends with its subtransaction": [
        Pipeline(
            [
                Sent("parse", "n", b"SELECT k, b FROM h WHERE k = $1", (23,)),
                Sent("query", b"BEGIN"),
                Sent("bind", "before", "n", (b"7",)),
                Sent("parse", "", b"SAVEPOINT s", ()),
                Sent("bind", "", "", ()),
                Sent("execute", "", 0),
                Sent("bind", "after", "n", (b"47",)),
                Sent("bind", "", "n", (b"47",)),
                *middle,
                Sent("query", b"ROLLBACK TO s"),
                Sent("bind", "after", "n", (b"5",)),
                Sent("describe", "P", "before"),
                Sent("execute", "before", 0),
                Sent("sync"),
                *end,
                Sent("execute", "before", 0),
                Sent("execute", "after", 0),
                Sent("execute", "", 0),
            ]
        )
        for middle in (
            [],
            [Sent("sync"), Sent("query", b"SELECT 1/0"), Sent("describe", "P", "before"), Sent("sync")],
            [Sent("sync"), Sent("query", b"SELECT 1/0"), Sent("execute", "before", 0), Sent("sync")],
            [Sent("sync"), Sent("query", b"SAVEPOINT t"), Sent("bind", "inner", "n", (b"5",)), Sent("execute", "", 1)],
        )
        for end in (
            [],
            [Sent("query", b"RELEASE s")],
            [Sent("query", b"SELECT 1/0"), Sent("query", b"ROLLBACK TO s")],
            [Sent("query", b"RELEASE s"), Sent("query", b"SAVEPOINT u"), Sent("query", b"ROLLBACK TO u")],
        )
    ],
    "a portal that fails inside of a savepoint cannot be run": [
        Pipeline(
            [
                Sent("parse", "n", b"SELECT k / 0 FROM h WHERE k = $1", (23,)),
                Sent("query", b"BEGIN"),
                Sent("bind", "before", "n", (b"7",)),
                Sent("sync"),
                Sent("query", b"SAVEPOINT s"),
                Sent("execute", "before", 0),
                Sent("sync"),
                Sent("execute", "before", 0),
                Sent("sync"),
                Sent("query", b"ROLLBACK TO s"),
                Sent("describe", "P", "before"),
                Sent("execute", "before", 0),
            ]
        )
    ],
    "a portal read in part goes on after its savepoint": [
        Pipeline(
            [
                Sent("parse", "n", b"SELECT k FROM one WHERE k > $1 ORDER BY k", (23,)),
                Sent("query", b"BEGIN"),
                Sent("bind", "before", "n", (b"7",)),
                Sent("execute", "before", 2),
                Sent("sync"),
                Sent("query", b"SAVEPOINT s"),
                Sent("execute", "before", 2),
                Sent("bind", "after", "n", (b"7",)),
                Sent("execute", "after", 2),
                Sent("sync"),
                *failing,
                Sent("query", b"ROLLBACK TO s"),
                Sent("execute", "before", 2),
                Sent("close", "P", "before"),
                Sent("execute", "after", 2),
            ]
        )
        for failing in ([], [Sent("query", b"SELECT 1/0")], [Sent("execute", "nowhere", 0), Sent("sync")])
    ],
    "a portal without columns is described in a failed transaction": [
        Pipeline(
            [
                *_FAILED[:1],
                Sent("parse", "", sql, ()),
                Sent("bind", "q", "", ()),
                *_FAILED[1:],
                Sent("execute", "", 0),
                Sent("sync"),
                Sent("describe", "P", "q"),
                Sent("sync"),
                Sent("describe", "P", ""),
                Sent("sync"),
                Sent("execute", "q", 0),
            ]
        )
        for sql in (
            b"BEGIN",
            b"DELETE FROM h WHERE k = 1",
            b"DELETE FROM h WHERE k = 1 RETURNING k",
            b"TABLE h",
            b"",
            b"SHOW DateStyle",
            b"COPY h TO STDOUT",
            b"CLOSE c",
        )
    ],
    "a name that a failed portal has is taken": [
        Pipeline(
            [
                *_FAILED,
                Sent("bind", "q", "", ()),
                Sent("execute", "q", 0),
                Sent("sync"),
                Sent("parse", "", b"ROLLBACK", ()),
                Sent("bind", "q", "", ()),
                Sent("sync"),
                Sent("close", "P", "q"),
                Sent("bind", "q", "", ()),
                Sent("execute", "q", 0),
            ]
        ),
    ],
    "a Query that a failed transaction refuses leaves the unnamed portal": [
        Pipeline(
            [
                *_FAILED,
                Sent("execute", "", 0),
                Sent("sync"),
                Sent("query", sql),
                Sent("execute", "", 0),
                Sent("sync"),
                Sent("describe", "P", ""),
            ]
        )
        for sql in (b"SELECT 1", b"SELEC", b"", b"ROLLBACK")
    ],
    "a Query that fails in a block leaves its own unnamed portal": [
        Pipeline([Sent("query", b"BEGIN"), *query, Sent("describe", "P", ""), Sent("sync"), Sent("execute", "", 0)])
        for query in (
            [Sent("query", b"COPY one FROM STDIN"), Sent("copy fail", "no more")],
            [Sent("query", b"SELECT k / 0 FROM ref WHERE k = 1")],
            [Sent("query", b"INSERT INTO h VALUES (1, 'x')")],
        )
    ],
    "what an error takes back of the settings is not reported": [
        Pipeline(
            [
                Sent("parse", "", b"SET DateStyle = 'German'", ()),
                Sent("bind", "", "", ()),
                Sent("execute", "", 0),
                Sent("execute", "", 0),
            ]
        ),
        Pipeline(
            [
                Sent("query", b"SET DateStyle = 'German'; SELECT 1/0"),
                Sent("query", b"SET DateStyle = 'SQL'"),
                Sent("query", b"SET DateStyle = 'German'; SET DateStyle = 'SQL'"),
            ]
        ),
    ],
    "SET LOCAL as the first of a pipeline warns, and lasts until its end": [
        Pipeline(
            [
                Sent("parse", "", b"SET LOCAL DateStyle = 'German'", ()),
                Sent("bind", "", "", ()),
                *before,
                Sent("execute", "", 0),
                Sent("parse", "", b"SELECT DATE '2024-02-01'", ()),
                Sent("bind", "", "", ()),
                Sent("execute", "", 0),
                *after,
            ]
        )
        for before in ([], [Sent("describe", "P", "")])
        for after in (
            [],
            [Sent("parse", "", b"SET LOCAL DateStyle = 'SQL'", ()), Sent("bind", "", "", ()), Sent("execute", "", 0)],
        )
    ],
    "the unnamed statement outlives errors, and the statements of others": [
        Pipeline(
            [
                Sent("parse", "", b"SELECT 7 / $1", (23,)),
                Sent("bind", "q", "", (b"0",)),
                Sent("execute", "q", 0),
                Sent("sync"),
                Sent("execute", "none", 0),
                Sent("sync"),
                Sent("bind", "", "", (b"2",)),
                Sent("execute", "", 0),
            ]
        ),
    ],
    "DECLARE CURSOR after an empty query needs a block as the first": [
        Pipeline(
            [
                Sent("parse", "", b"", ()),
                Sent("bind", "", "", ()),
                Sent("execute", "", 0),
                Sent("parse", "", b"DECLARE c CURSOR FOR SELECT k FROM one ORDER BY k", ()),
                Sent("bind", "", "", ()),
                Sent("execute", "", 0),
            ]
        ),
    ],
    "EXECUTE and FETCH of what is not there yet are described without columns": [
        Pipeline(
            [
                Sent("parse", "n", b"EXECUTE p", ()),
                Sent("parse", "m", b"FETCH 2 FROM c", ()),
                Sent("sync"),
                Sent("query", b"PREPARE p AS SELECT k FROM one WHERE k = 1"),
                Sent("query", b"BEGIN; DECLARE c CURSOR FOR SELECT k FROM one ORDER BY k"),
                *(
                    sent
                    for name in ("n", "m")
                    for sent in (
                        Sent("describe", "S", name),
                        Sent("bind", "", name, ()),
                        Sent("describe", "P", ""),
                        Sent("execute", "", 0),
                    )
                ),
            ]
        ),
    ],
    "a portal outlives its statement, and another of that name": [
        Pipeline(
            [
                Sent("parse", "n", b"UPDATE h SET b = b || '.' WHERE k = $1 RETURNING k", (23,)),
                *(Sent("bind", f"q{key}", "n", (b"%d" % key,)) for key in range(1, 7)),
                Sent("close", "S", "n"),
                Sent("parse", "n", b"SELECT b FROM ref WHERE k = $1", (23,)),
                Sent("bind", "", "n", (b"3",)),
                *(Sent("describe", "P", f"q{key}") for key in range(1, 4)),
                *(Sent("execute", f"q{key}", 0) for key in range(1, 7)),
                Sent("execute", "", 0),
                Sent("sync"),
                Sent("bind", "", "n", (b"4",)),
                Sent("execute", "", 0),
            ]
        ),
    ],
    "Bind counts its parameters before it looks at anything else": [
        Pipeline(
            [
                Sent("parse", "n", b"UPDATE h SET b = 'x' WHERE k = $1", (23,)),
                Sent("bind", "", "n", ()),
                Sent("execute", "", 0),
            ]
        ),
        Pipeline([Sent("bind", "q", "n", (b"1",)), Sent("bind", "q", "n", ())]),
        Pipeline([Sent("query", b"BEGIN"), Sent("query", b"SELECT 1/0"), Sent("bind", "", "n", ())]),
        Pipeline([Sent("parse", "", b"BEGIN", ()), Sent("bind", "", "", (b"1",))]),
        Pipeline(
            [Sent("parse", "", b"PREPARE p AS SELECT $1::int", ()), Sent("bind", "", "", ()), Sent("execute", "", 0)]
        ),
        Pipeline([Sent("parse", "", b"SELECT 1", (23, 23)), Sent("bind", "", "", (b"1",))]),
    ],
    "the empty query is not bound in a failed transaction": [
        Pipeline(
            [
                Sent("query", b"BEGIN"),
                Sent("query", b"SELECT 1/0"),
                Sent("parse", "", b"", ()),
                Sent("describe", "S", ""),
                Sent("bind", "", "", ()),
                Sent("execute", "", 0),
            ]
        ),
    ],
}

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
}
