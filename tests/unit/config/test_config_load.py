"""The configuration file: what is accepted, and every error with its line, its place and a remedy."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shardproxy.config import Config, ConfigErrors, Edge, Problem, load, model, parse
from shardproxy.wire.scram import Verifier

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = sorted((REPOSITORY / "config").glob("*.toml"))
ENVIRONMENT = {"APP_PASSWORD": "app secret", "POSTGRES_PASSWORD": "postgres secret"}

SHOP = """\
[[databases]]
name = "shop"
shards = [
  { name = "s0", dsn = "postgresql://u@h:1/a" },
  { name = "s1", dsn = "postgresql://u@h:2/a" },
]
"""


def errors(text: str, environment: dict[str, str] | None = None) -> list[Problem]:
    with pytest.raises(ConfigErrors) as caught:
        parse(text, environment=environment or {})
    for problem in caught.value.problems:
        assert problem.remedy, problem
    return list(caught.value.problems)


def table(text: str) -> str:
    return f'{SHOP}[[databases.tables]]\nname = "t"\n{text}'


def the_error(text: str, environment: dict[str, str] | None = None) -> tuple[int | None, str, str]:
    (problem,) = errors(text, environment)
    return problem.line, problem.path, problem.message


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_right(path: Path) -> None:
    assert load(path, ENVIRONMENT | dict.fromkeys(re.findall(r"\$\{(\w+)\}", path.read_text()), "x")).databases


def models() -> Iterator[type[BaseModel]]:
    for name in ("Server", "Admin", "User", "Database", "Shard", "Table", "ListValues", "RangeBounds", "Config"):
        yield getattr(model, name)


@pytest.mark.parametrize("path", ["config/shardproxy.toml", "docs/configuration.md"])
def test_every_option_is_documented(path: str) -> None:
    text = (REPOSITORY / path).read_text()
    for one in models():
        for name, field in one.model_fields.items():
            assert field.description, name
            assert re.search(rf"\b{field.alias or name}\b", text), name


def test_the_example_shows_the_defaults() -> None:
    text = (REPOSITORY / "config/shardproxy.toml").read_text()
    defaults = {**model.Server().model_dump(), **model.Database.model_fields, **model.Load.model_fields}
    shown = dict(
        re.findall(r"^# (\w+) = (.+)$", text.partition("[admin]")[0] + text.partition("[[databases]]")[2], re.M)
    )
    assert shown.keys() == {
        "workers", "max_clients", "login_timeout", "drain_timeout", "commit", "unlisted_tables", "connect_timeout",
        "stall_timeout", "deadlock_timeout", "max_statement_size", "prepare_timeout", "commit_timeout",
        "on_error", "reject_limit", "batch_rows", "batch_size", "max_row_bytes",
    }  # fmt: skip
    for name, value in shown.items():
        default = defaults[name]
        default = getattr(default, "default", default)
        assert value.strip('"') == (f"{default:g}" if isinstance(default, float) else str(default))


def test_what_is_read() -> None:
    config = load(REPOSITORY / "config/shardproxy.toml", {})
    (database,) = config.databases
    assert (config.server.host, config.server.port) == ("127.0.0.1", 6432)
    assert (database.commit, database.unlisted_tables, database.connect_timeout) == ("two-phase", "error", 10.0)
    assert [(shard.name, str(shard.dsn)) for shard in database.shards] == [
        ("s0", "postgres@127.0.0.1:5433/shop"),
        ("s1", "postgres@127.0.0.1:5434/shop"),
        ("s2", "postgres@127.0.0.1:5435/shop"),
    ]
    users, lines, customers, events, _, settings = database.tables
    assert (users.schema, users.relation, users.key) == ("public", "users", ("id",))
    assert (lines.schema, lines.relation, lines.key) == ("Sales", "Order.Lines", ("customer", "Line"))
    assert [(entry.shard, entry.values) for entry in customers.values] == [
        ("s0", ("de", "at", "ch")),
        ("s1", ("fr", None)),
    ]
    assert customers.default == "s2"
    assert [(entry.lower, entry.upper) for entry in events.bounds] == [
        ((Edge.MINVALUE,), ("2024-01-01",)),
        (("2024-01-01",), ("2025-01-01",)),
        (("2025-01-01",), (Edge.MAXVALUE,)),
    ]
    assert settings.shard == "s0"
    assert hash(users) != hash(lines)


def test_values_keep_their_spelling() -> None:
    text = table(
        'placement = "list"\nkey = ["k"]\n'
        'values = [{ shard = "s0", in = [1, 0.1234567890123456789, 1_0.50, true, 2024-01-02, 2024-01-02T03:04:05, '
        '2024-01-02T03:04:05Z, nan, -inf, "x", { value = "NULL" }, "NULL", { value = "MINVALUE" }, "MINVALUE"] }]'
    )
    # MINVALUE has no meaning in a list, so both spellings are the text, and one of them is too many.
    assert the_error(text)[1:] == ("databases[0].tables[0].values[0].in[13]", "'MINVALUE' already has a shard")
    (entry,) = parse(text.replace(', { value = "MINVALUE" }', "")).databases[0].tables[0].values
    assert entry.values == (
        "1", "0.1234567890123456789", "10.50", "true", "2024-01-02", "2024-01-02 03:04:05",
        "2024-01-02 03:04:05+00:00", "NaN", "-Infinity", "x", "NULL", None, "MINVALUE",
    )  # fmt: skip


def test_a_range_tells_text_from_edge() -> None:
    text = table(
        'placement = "range"\nkey = ["k"]\n'
        'bounds = [{ shard = "s0", from = [{ value = "MINVALUE" }], to = ["MAXVALUE"] }]'
    )
    (bound,) = parse(text).databases[0].tables[0].bounds
    assert (bound.lower, bound.upper) == (("MINVALUE",), (Edge.MAXVALUE,))


ONE_ERROR = {
    # what -> (text, line, path, part of the message)
    "syntax": ("[server]\nlisten = x\n", 2, "", "is not TOML: Invalid value"),
    "an unclosed string": ('a = """\n\n', 3, "", "is not TOML"),
    "a key given twice": (f'{SHOP}name = "again"\n', 7, "", "is not TOML: Cannot overwrite a value"),
    "unknown key of the file": (f"{SHOP}[serve]\n", 7, "serve", "unknown key `serve`"),
    "unknown key of a shard": (
        SHOP.replace('{ name = "s1"', '{ nam = "x", name = "s1"'), 5, "databases[0].shards[1].nam", "unknown key",
    ),
    "an empty file": ("", 1, "databases", "is missing"),
    "no databases": ("databases = []", 1, "databases", "is empty"),
    "no shards": ('[[databases]]\nname = "x"\nshards = []', 3, "databases[0].shards", "is empty"),
    "shards missing": ('\n[[databases]]\nname = "x"', 2, "databases[0].shards", "is missing"),
    "a shard that is no table": (
        SHOP.replace('{ name = "s1", dsn = "postgresql://u@h:2/a" }', '"s1"'), 5, "databases[0].shards[1]",
        "is not a table",
    ),
    "array for a table": (f"{SHOP}[[server]]\n", 7, "server", "is not a table"),
    "workers as text": (f'{SHOP}[server]\nworkers = "2"', 8, "server.workers", "is not a whole number"),
    "workers as boolean": (f"{SHOP}[server]\nworkers = true", 8, "server.workers", "is not a whole number"),
    "workers below zero": (f"{SHOP}[server]\nworkers = -1", 8, "server.workers", "greater than or equal to 0"),
    "a timeout of nothing": (f"{SHOP}connect_timeout = 0", 7, "databases[0].connect_timeout", "greater than 0"),
    "an endless timeout": (f"{SHOP}connect_timeout = inf", 7, "databases[0].connect_timeout", "is not a finite"),
    "a timeout with a unit": (f'{SHOP}[server]\nlogin_timeout = "60s"', 8, "server.login_timeout", "is not a number"),
    "listen without port": (f'{SHOP}[server]\nlisten = "127.0.0.1"', 8, "server.listen", "is not an address"),
    "listen on all": (f'{SHOP}[server]\nlisten = "*:1"', 8, "server.listen", "is not an address"),
    "listen on port 65536": (f'{SHOP}[server]\nlisten = "[::1]:65536"', 8, "server.listen", "is not an address"),
    "listen on no address": (f'{SHOP}[server]\nlisten = "1.2.3:4"', 8, "server.listen", "1.2.3"),
    "trust on the network": (f'{SHOP}[server]\nlisten = "0.0.0.0:1"', 8, "server.listen", "all clients are trusted"),
    "trust on a host name": (f'{SHOP}[server]\nlisten = "db:1"', 8, "server.listen", "all clients are trusted"),
    "one address twice": (
        f'{SHOP}[server]\nlisten = "[::1]:7"\n[admin]\nlisten = "[::1]:7"', 10, "admin.listen", "the same address",
    ),
    "commit": (f'{SHOP}commit = "fast"', 7, "databases[0].commit", "is 'fast', which is not one of the choices"),
    "unlisted_tables": (f'{SHOP}unlisted_tables = "s2"', 7, "databases[0].unlisted_tables", 'no shard "s2"'),
    "a database twice": (SHOP + SHOP, 8, "databases[1].name", 'another database "shop"'),
    "a shard twice": (SHOP.replace("s1", "s0"), 5, "databases[0].shards[1].name", 'another shard "s0"'),
    "a shard named error": (SHOP.replace("s1", "error"), 5, "databases[0].shards[1].name", "has a special meaning"),
    "an unprintable name": (SHOP.replace("s1", "s\\n1"), 5, "databases[0].shards[1].name", "unprintable"),
    "one database for two shards": (SHOP.replace(":2", ":1"), 5, "databases[0].shards[1].dsn", 'as that of shard "s0"'),
    "no placement": (table(""), 7, "databases[0].tables[0].placement", "is missing"),
    "placement": (table('placement = "hsah"'), 9, "databases[0].tables[0].placement", "not one of the choices"),
    "hash without key": (table('placement = "hash"'), 7, "databases[0].tables[0]", "needs `key`"),
    "hash with empty key": (table('placement = "hash"\nkey = []'), 10, "databases[0].tables[0].key", "needs `key`"),
    "hash with values": (
        table('placement = "hash"\nkey = ["a"]\nvalues = []'), 11, "databases[0].tables[0].values",
        "a hash table has no `values`",
    ),
    "a key column twice": (
        table('placement = "hash"\nkey = ["a", "A"]'), 10, "databases[0].tables[0].key[1]", '"a" twice',
    ),
    "a bad column": (
        table('placement = "hash"\nkey = ["a", "b c"]'), 10, "databases[0].tables[0].key[1]", "not a valid SQL name",
    ),
    "a key that is no array": (
        table('placement = "hash"\nkey = "a"'), 10, "databases[0].tables[0].key", "not an array",
    ),
    "list without values": (table('placement = "list"\nkey = ["a"]'), 7, "databases[0].tables[0]", "needs `values`"),
    "list by two columns": (
        table('placement = "list"\nkey = ["a", "b"]\nvalues = [{ shard = "s0", in = [1] }]'), 10,
        "databases[0].tables[0].key", "one key column",
    ),
    "a value of two shards": (
        table('placement = "list"\nkey = ["a"]\nvalues = [\n{ shard = "s0", in = [1] },\n'
              '{ shard = "s1", in = ["1"] }]'), 13, "databases[0].tables[0].values[1].in[0]", "'1' already has a shard",
    ),
    "a value that is none": (
        table('placement = "list"\nkey = ["a"]\nvalues = [{ shard = "s0", in = [[1]] }]'), 11,
        "databases[0].tables[0].values[0].in[0]", "is expected",
    ),
    "an unknown default": (
        table('placement = "list"\nkey = ["a"]\nvalues = [{ shard = "s0", in = [1] }]\ndefault = "s2"'), 12,
        "databases[0].tables[0].default", 'no shard "s2"',
    ),
    "range without bounds": (table('placement = "range"\nkey = ["a"]'), 7, "databases[0].tables[0]", "needs `bounds`"),
    "a bound of the wrong width": (
        table('placement = "range"\nkey = ["a", "b"]\nbounds = [{ shard = "s0", from = [1, 2], to = [3] }]'), 11,
        "databases[0].tables[0].bounds[0].to", "has 1 values, but the key has 2 columns",
    ),
    "a value after MINVALUE": (
        table('placement = "range"\nkey = ["a", "b"]\nbounds = '
              '[{ shard = "s0", from = ["MINVALUE", 2], to = [3, 4] }]'), 11,
        "databases[0].tables[0].bounds[0].from[1]", "every bound following MINVALUE must also be MINVALUE",
    ),
    "bare MINVALUE": (
        table('placement = "range"\nkey = ["a"]\nbounds = [{ shard = "s0", from = [MINVALUE], to = [3] }]'), 11, "",
        "is not TOML",
    ),
    "reference with key": (table('placement = "reference"\nkey = ["a"]'), 10, "databases[0].tables[0].key", "no `key`"),
    "single without shard": (table('placement = "single"'), 7, "databases[0].tables[0]", "needs `shard`"),
    "single on an unknown shard": (
        table('placement = "single"\nshard = "s2"'), 10, "databases[0].tables[0].shard", 'no shard "s2"',
    ),
    "a table twice": (
        table('placement = "reference"\n[[databases.tables]]\nname = \'PUBLIC."t"\'\nplacement = "reference"'), 11,
        "databases[0].tables[1].name", "another table",
    ),
    "a table's bad name": (
        table('placement = "reference"').replace('"t"', '"a..b"'), 8, "databases[0].tables[0].name", "not a valid",
    ),
    "a catalog": (
        table('placement = "reference"').replace('"t"', '"pg_catalog.pg_class"'), 8, "databases[0].tables[0].name",
        "system schema",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ONE_ERROR)
def test_one_error(what: str) -> None:
    text, line, path, message = ONE_ERROR[what]
    found = the_error(text)
    assert found[:2] == (line, path)
    assert message in found[2]


def test_remedies_lead_on() -> None:
    (problem,) = errors(f"{SHOP}[server]\nwrokers = 1")
    assert problem.remedy == 'Did you mean "workers"?'
    (problem,) = errors(table('placement = "single"\nshard = "x9"'))
    assert problem.remedy == "Known: s0, s1."
    (problem,) = errors(ONE_ERROR["bare MINVALUE"][0])
    assert problem.remedy == 'Write "MINVALUE", in quotes.'


def test_all_at_once_in_the_order_of_lines() -> None:
    text = f"""\
[server]
listen = "db"
wrokers = 1
{SHOP.replace("u@h:1", "h:1")}
unlisted_tables = "x"
[[databases.tables]]
placement = "hash"
key = ["a", "a"]
[[users]]
name = "app"
password = "${{APP}}"
databases = ["shop", "shoe"]
"""
    assert [(problem.line, problem.path) for problem in errors(text)] == [
        (2, "server.listen"),
        (3, "server.wrokers"),
        (7, "databases[0].shards[0].dsn"),
        (11, "databases[0].unlisted_tables"),
        (12, "databases[0].tables[0].name"),
        (14, "databases[0].tables[0].key[1]"),
        (17, "users[0].password"),
        (18, "users[0].databases[1]"),
    ]


def user(password: str, more: str = "") -> str:
    return f'{SHOP}[[users]]\nname = "app"\npassword = "{password}"\ndatabases = ["shop"]\n{more}'


def test_users() -> None:
    config = parse(user("${APP}-$${x}") + '[server]\nlisten = "0.0.0.0:6432"', environment={"APP": "${B}"})
    assert config.users[0].password.get_secret_value() == "${B}-${x}"
    assert the_error(user("x", '[[users]]\nname = "app"\npassword = "y"\ndatabases = ["shop"]'))[1] == "users[1].name"
    assert the_error(user("x").replace('["shop"]', "[]"))[1:] == ("users[0].databases", "is empty")
    assert the_error(user(""))[1:] == ("users[0].password", "is empty")
    assert "NOPE" in the_error(user("${NOPE}"))[2]
    assert "md5" in the_error(user("md5" + "0" * 32))[2].lower()
    verifier = str(Verifier.from_password("x"))
    assert parse(user(verifier)).users[0].password.get_secret_value() == verifier
    assert "verifier" in the_error(user(verifier[:-4]))[2]


@pytest.mark.parametrize(
    "text",
    [
        user("hunter2").replace('"shop"]', '"shop", 7]'),
        user("hunter2\\u0000"),
        user("SCRAM-SHA-256$4096:hunter2"),
        user("${hunter2"),
        user("${}hunter2"),
        user("x").replace("u@h:1", "u:hunter2@h:x"),
        user("x").replace("u@h:1", "u:hunter2@oops@h:1"),
        user("x").replace("postgresql://u@h:1/a", "host=h password=hunter2"),
        user("x").replace("postgresql://u@h:1/a", "host=h password='hunter2"),
        user("x").replace("postgresql://u@h:1/a", "hunter2"),
        user("x").replace("postgresql://u@h:1/a", "postgresql://u@h/d?hunter2 x=1"),
    ],
)
def test_secrets_do_not_show_in_errors(text: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse(text, environment={})
    error = caught.value
    assert "hunter2" not in f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"


def test_secrets_do_not_show_in_values() -> None:
    config = parse(user("hunter2").replace("u@h", "u:hunter3@h"), environment={})
    assert config.databases[0].shards[0].dsn.password is not None
    assert "hunter" not in f"{config!r} {config} {config.databases[0].shards[0].dsn}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="No such file"):
        load(tmp_path / "absent")
    (tmp_path / "latin1").write_bytes(b"a = 1\nb = '\xe9'\n")
    with pytest.raises(ConfigErrors, match=r"latin1:2: is not UTF-8"):
        load(tmp_path / "latin1")
    (tmp_path / "marked").write_text(SHOP, encoding="utf-8-sig")
    with pytest.raises(ConfigErrors, match=r"marked:1: is not TOML: it begins with a byte order mark"):
        load(tmp_path / "marked")


def test_values_cannot_be_changed() -> None:
    config = parse(SHOP, environment={})
    with pytest.raises(ValueError, match="frozen"):
        config.server.workers = 2


documents = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text("ab${}:/@.1=' ", max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(sorted({n for m in models() for n in m.model_fields} | {"in", "x"})), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def toml(value: object) -> str:
    match value:
        case None:
            return "1979-05-27"
        case bool():
            return "true" if value else "false"
        case dict():
            return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            return '"' + value + '"'
    return str(value)


@given(st.dictionaries(st.sampled_from(sorted(Config.model_fields)), documents, max_size=4))
def test_any_document_is_right_or_has_errors_with_lines(document: dict[str, object]) -> None:
    text = "".join(f"{key} = {toml(value)}\n" for key, value in document.items())
    lines = {key: number for number, key in enumerate(document, start=1)}
    problems: tuple[Problem, ...] = ()
    try:
        config = parse(text, environment={})
    except ConfigErrors as error:
        problems = error.problems
        assert problems, "an error without a problem"
    else:
        assert config.databases
    for problem in problems:
        first = re.split(r"[.\[]", problem.path)[0]
        assert problem.line == lines.get(first, 1), problem
        assert problem.message
