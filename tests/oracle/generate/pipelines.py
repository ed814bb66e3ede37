"""Random pipelines of all messages that a client may send, over statements that the proxy routes in each way."""

from random import Random

from tests.oracle.sequences import Cancel, Pipeline, Sent

SELECT = b"SELECT k, b FROM h WHERE k = $1"
STATEMENTS = (
    (8, SELECT), (6, b"INSERT INTO h VALUES ($1, 'new')"), (4, b"UPDATE h SET b = b || '.' WHERE k = $1 RETURNING k"),
    (3, b"DELETE FROM h WHERE k = $1"), (2, b"SELECT k / 0 FROM h WHERE k = $1"),
    (2, b"SELECT b FROM ref WHERE k = $1"),
    (2, b"UPDATE one SET b = 'x' WHERE k = $1"), (1, b"SELECT k FROM h WHERE b = $1::int::text"),
    (1, b"UPDATE ref SET b = b || '.' WHERE k = $1 RETURNING k"), (1, b"INSERT INTO ref VALUES ($1, 'new')"),
    (1, b"DELETE FROM one WHERE k = $1 RETURNING b"), (1, b"SELECT $1 + 0"), (1, b"SELECT 'some' FROM h WHERE k <> $1"),
    (0.5, b"SELECT nonsense FROM h WHERE k = $1"), (0.5, b"SELECT k FROM one WHERE k > $1 ORDER BY k"),
    (0.5, b"DECLARE c CURSOR FOR SELECT k FROM one ORDER BY k"), (0.5, b"FETCH 2 FROM c"), (0.5, b"CLOSE c"),
    (0.5, b"PREPARE p AS SELECT k FROM one WHERE k = 1"), (0.5, b"EXECUTE p"), (0.5, b"DEALLOCATE p"),
)  # fmt: skip
CONTROL = (
    b"BEGIN", b"BEGIN", b"COMMIT", b"COMMIT", b"ROLLBACK", b"SAVEPOINT s", b"ROLLBACK TO s", b"RELEASE s", b"",
    b"SELEC 1", b"SET DateStyle = 'German'", b"RESET DateStyle", b"SHOW DateStyle", b"SELECT 1", b"LISTEN x",
    b"SET LOCAL TimeZone = 'UTC'", b"CREATE TEMP TABLE IF NOT EXISTS tmp (x int)", b"SELECT * FROM tmp", b"ANALYZE h",
)  # fmt: skip
SEVERAL = (
    b"SELECT 1; SELECT 2", b"BEGIN; SELECT 1", b"INSERT INTO h VALUES (70, 'x'); SELECT 1/0",
    b"SELECT 1; COMMIT; SELECT 2",
    b"INSERT INTO one VALUES (71, 'x'); INSERT INTO h VALUES (72, 'x')", b"SELECT 1;;SELECT 2", b"SELECT 1; SELEC 2",
)  # fmt: skip
COPY_IN = (b"COPY h FROM STDIN", b"COPY ref FROM STDIN", b"COPY one FROM STDIN")
COPY_OUT = (b"COPY h TO STDOUT", b"COPY one TO STDOUT", b"COPY (SELECT b FROM ref) TO STDOUT")
SLEEPS = (
    b"SELECT pg_sleep(30)",
    b"SELECT pg_sleep(30) FROM h WHERE k = 1",
    b"SELECT pg_sleep(30) FROM one WHERE k = 1",
)
KEYS = 80


def pipelines(seed: int) -> list[Pipeline]:
    """Some pipelines of one session."""
    return _Writer(Random(seed)).pipelines()


class _Writer:
    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._meant: dict[str, bytes] = {}

    def pipelines(self) -> list[Pipeline]:
        return [self._pipeline() for _ in range(self._rng.randint(1, 5))]

    def _pipeline(self) -> Pipeline:
        messages: list[Sent] = []
        for _ in range(self._rng.choice((1, 2, 3, 5, 8, 20))):
            messages += self._unit()
            if self._rng.random() < 0.4:
                messages.append(Sent("sync"))
            elif self._rng.random() < 0.1:
                messages.append(Sent("flush"))
        if self._rng.random() < 0.02:
            messages += [Sent("sync"), Sent("query", self._rng.choice(SLEEPS))]
            return Pipeline(messages, Cancel.WHEN_IT_SLEEPS)
        return Pipeline(messages)

    def _unit(self) -> list[Sent]:
        rng = self._rng
        return rng.choices(
            (self._whole, self._query, self._loose, self._copy_in, self._copy_out), (10, 3, 3, 0.7, 0.4)
        )[0]()

    def _statement(self) -> bytes:
        if self._rng.random() < 0.2:
            return self._rng.choice(CONTROL)
        return self._rng.choices([one for _, one in STATEMENTS], [weight for weight, _ in STATEMENTS])[0]

    def _key(self) -> bytes:
        return b"%d" % self._rng.randrange(1, KEYS)

    def _name(self) -> str:
        return self._rng.choice(("", "", "n1", "n2", "n3"))

    def _values(self, sql: bytes) -> tuple[bytes | None, ...]:
        count = int(b"$1" in sql)
        if self._rng.random() < 0.03:
            count = 1 - count
        return tuple(None if self._rng.random() < 0.03 else self._key() for _ in range(count))

    def _parse(self, name: str) -> list[Sent]:
        sql = self._statement()
        self._meant[name] = sql
        parse = Sent("parse", name, sql, (23,) if b"$1" in sql else ())
        return [Sent("close", "S", name), parse] if name and self._rng.random() < 0.85 else [parse]

    def _bind(self, name: str, portal: str) -> Sent:
        return Sent("bind", portal, name, self._values(self._meant.get(name, b"")))

    def _whole(self) -> list[Sent]:
        """Parse, Bind, Describe, Execute, as drivers send them, with one of them left out or twice now and then."""
        rng, name = self._rng, self._name()
        portal = rng.choice(("", "", "", "q1", "q2"))
        sent = [] if name in self._meant and name and rng.random() < 0.6 else self._parse(name)
        if rng.random() < 0.1:
            sent.append(Sent("describe", "S", name))
        if portal and rng.random() < 0.7:
            sent.append(Sent("close", "P", portal))
        sent.append(self._bind(name, portal))
        if rng.random() < 0.6:
            sent.append(Sent("describe", "P", portal))
        sent.append(Sent("execute", portal, rng.choice((0, 0, 0, 0, 1, 2, 100))))
        if rng.random() < 0.1:
            sent.append(Sent("execute", portal, rng.choice((0, 1))))
        return sent

    def _loose(self) -> list[Sent]:
        """One message by itself."""
        rng = self._rng
        name, portal = self._name(), rng.choice(("", "q1", "q2", "c"))
        return [
            rng.choice((
                lambda: Sent("describe", "S", name),
                lambda: Sent("describe", "P", portal),
                lambda: Sent("execute", portal, rng.choice((0, 1))),
                lambda: Sent("close", "S", name),
                lambda: Sent("close", "P", portal),
                lambda: self._bind(name, portal),
                lambda: Sent("flush"),
                lambda: Sent("sync"),
                lambda: Sent("copy data", b"5\tstray\n"),
                lambda: Sent("copy done"),
            ))()
        ]  # fmt: skip

    def _query(self) -> list[Sent]:
        """Query, after a Sync: without it PostgreSQL itself gets into "unexpected state STARTED"."""
        rng = self._rng
        sql = rng.choice(SEVERAL) if rng.random() < 0.15 else self._statement().replace(b"$1", self._key())
        if rng.random() < 0.3:
            sql = rng.choice(CONTROL)
        return [Sent("sync"), Sent("query", sql)]

    def _copy_in(self) -> list[Sent]:
        rng, sql = self._rng, self._rng.choice(COPY_IN)
        lines = [b"%d\tcopied\n" % rng.randrange(100, 10_000) for _ in range(rng.randint(0, 4))]
        if rng.random() < 0.15:
            lines.append(b"x\ty\n")
        data = [Sent("copy data", line) for line in lines]
        end = rng.choice((Sent("copy done"), Sent("copy done"), Sent("copy done"), Sent("copy fail", "no more")))
        if rng.random() < 0.5:
            return [Sent("sync"), Sent("query", sql), *data, end]
        begin = [Sent("parse", "", sql, ()), Sent("bind", "", "", ()), Sent("execute", "", 0)]
        if rng.random() < 0.2:
            begin.insert(2, Sent("describe", "P", ""))
        return [*begin, *data, end, Sent("sync")]

    def _copy_out(self) -> list[Sent]:
        sql = self._rng.choice(COPY_OUT)
        if self._rng.random() < 0.5:
            return [Sent("sync"), Sent("query", sql)]
        return [Sent("parse", "", sql, ()), Sent("bind", "", "", ()), Sent("execute", "", 0)]
