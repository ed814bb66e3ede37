"""Pipelines that differed once, each as short as it got, by a name that tells what was wrong."""

from collections.abc import Sequence

from tests.oracle.sequences import Pipeline, Sent

_FAILED = [
    Sent("query", b"BEGIN"),
    Sent("parse", "", b"SELECT k / 0 FROM ref WHERE k = 1", ()),
    Sent("bind", "", "", ()),
]

KEPT_PIPELINES: dict[str, Sequence[Pipeline]] = {
    "a statement without rows is described in a failed transaction, also where no shard has it any more": [
        Pipeline(
            [
                Sent("query", b"BEGIN"),
                Sent("parse", "", b"INSERT INTO h VALUES ($1, 'new')", (23,)),
                Sent("execute", "", 100),
                Sent("sync"),
                Sent("describe", "S", ""),
            ]
        )
    ],
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
