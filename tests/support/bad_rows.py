"""Random rows of which many are bad, and what one PostgreSQL says of each by itself."""

import random

import psycopg

DDL = """CREATE TABLE parent (id int PRIMARY KEY);
    INSERT INTO parent VALUES (1), (2), (3);
    CREATE TABLE sharded (
        id int PRIMARY KEY, day date NOT NULL, c varchar(5) CHECK (c <> 'no'), p int REFERENCES parent
    )"""

KINDS = (
    "good",
    "good",
    "good",
    "again",
    "date",
    "null",
    "long",
    "check",
    "orphan",
    "short",
    "wide",
    "bytes",
    "zero",
    "key",
    "again, orphan",
)


def random_rows(rng: random.Random, count: int) -> list[bytes]:
    """Rows of CSV for the table `sharded`, of which many are bad in one way."""
    rows: list[bytes] = []
    for number in range(1, count + 1):
        fields = [
            str(number),
            f"2024-01-{rng.randint(1, 28):02d}",
            rng.choice(["", '"a\nb"', "x,y".join('""'), "z"]),
            "1",
        ]
        match rng.choice(KINDS):
            case "again":
                fields[0] = str(rng.randint(1, number))
            case "date":
                fields[1] = "2024-02-30"
            case "null":
                fields[1] = ""
            case "long":
                fields[2] = "x" * 6
            case "check":
                fields[2] = "no"
            case "again, orphan":
                fields[0], fields[3] = str(rng.randint(max(1, number - 5), number)), "9"
            case "orphan":
                fields[3] = "9"
            case "short":
                del fields[rng.randint(1, 3) :]
            case "wide":
                fields.append("")
            case "bytes":
                fields[2] = "\udcff"
            case "zero":
                fields[2] = "\0"
            case "key":
                fields[0] = rng.choice(["x", "", "1.5", "99999999999"])
        rows.append(",".join(fields).encode("utf-8", "surrogateescape") + b"\n")
    return rows


def row_by_row(dsn: str, rows: list[bytes]) -> dict[int, str]:
    """Load rows on one PostgreSQL, each by a COPY of its own; return the SQLSTATE of those that are refused."""
    refused: dict[int, str] = {}
    with psycopg.connect(dsn) as connection:
        connection.execute("TRUNCATE sharded")
        for number, row in enumerate(rows, 1):
            try:
                copy = connection.cursor().copy("COPY sharded FROM STDIN (FORMAT csv)")
                with connection.transaction(), copy as stream:
                    stream.write(row)
            except psycopg.Error as error:
                refused[number] = error.sqlstate or ""
    return refused
