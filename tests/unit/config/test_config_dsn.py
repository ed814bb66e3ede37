"""DSNs: libpq's two forms, what is refused, and variables. psycopg's libpq is the oracle for what is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shardproxy.config.dsn import Dsn, DsnError, parse_dsn
from shardproxy.config.environment import UnresolvedError, expand


def facts(dsn: Dsn) -> dict[str, str | int | None]:
    password = dsn.password.get_secret_value() if dsn.password else None
    return {"host": dsn.host, "port": dsn.port, "user": dsn.user, "password": password, "dbname": dsn.database}


ACCEPTED = [
    "postgresql://u@h/d",
    "postgres://u:p@h:5433/d",
    "postgresql://u:p%40%2F%3a@[::1]:5433/d%20e?sslmode=disable",
    "postgresql://u@10.0.0.1:6/d?",
    "postgresql:///d?host=h&user=u&port=7",
    "postgresql://h/d?user=u&password=a%26b",
    "host=h user=u dbname=d",
    " host = h   port=5433 user = 'a b' password='it\\'s \\\\ x' dbname=d ",
    r"host=h user=a\ b dbname=d password=\'",
    "user=u host=h dbname=d sslmode=prefer",
    "host=::1 user=u dbname=d port=''",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_read_as_libpq_does(text: str) -> None:
    expected = {"port": 5432, "password": None, "sslmode": "prefer"} | conninfo_to_dict(text)
    expected["port"] = int(expected["port"] or 5432)
    dsn = parse_dsn(text, {})
    assert facts(dsn) | {"sslmode": dsn.sslmode} == expected


word = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(user=word, password=word, dbname=word)
def test_pairs_from_libpq_are_read_back(user: str, password: str, dbname: str) -> None:
    text = make_conninfo(host="h", user=user, password=password, dbname=dbname).replace("${", "$${")
    assert facts(parse_dsn(text, {})) == {
        "host": "h", "port": 5432, "user": user, "password": password, "dbname": dbname,
    }  # fmt: skip


@given(password=word, user=word)
def test_variables_need_no_escape(password: str, user: str) -> None:
    environment = {"USER": user, "PASSWORD": password}
    for text in ("postgresql://${USER}:${PASSWORD}@h/d", "host=h dbname=d user=${USER} password='${PASSWORD}'"):
        dsn = parse_dsn(text, environment)
        assert (dsn.user, dsn.password and dsn.password.get_secret_value()) == (user, password)


def test_a_whole_dsn_from_the_environment() -> None:
    text = "postgresql://u:a${b}%7D@h/d"
    dsn = parse_dsn("${SHARD}", {"SHARD": text, "b": "wrong"})
    assert facts(dsn)["password"] == "a${b}}"


def test_percent_encoded_references_are_text() -> None:
    assert facts(parse_dsn("postgresql://u:%24%7Bb%7D@h/d", {"b": "wrong"}))["password"] == "${b}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no host"),
        ("postgresql://", "has no host"),
        ("postgresql://h/d", "has no user"),
        ("postgresql://u@h", "has no database"),
        ("mysql://u@h/d", "neither"),
        ("http://u@h/d", "neither"),
        ("postgresql://u@a,b/d", "several hosts"),
        ("host=a,b user=u dbname=d", "several hosts"),
        ("host=a port=1,2 user=u dbname=d", "several hosts"),
        ("postgresql://u@h:99999/d", "port"),
        ("postgresql://u@h:0/d", "port"),
        ("postgresql://u@h:x/d", "port"),
        ("postgresql://u@::1/d", "cannot be separated"),
        ("postgresql://u@%2Ftmp/d", "Unix-domain"),
        ("host=/tmp user=u dbname=d", "Unix-domain"),
        ("postgresql://u:%@h/d", "%"),
        ("postgresql://u:%ff@h/d", "UTF-8"),
        ("postgresql://u@h/d?host=i", "`host` twice"),
        ("postgresql://u@h/d?sslmode", "without a value"),
        ("postgresql://u@h/d?sslmode=require", "sslmode=require is not supported"),
        ("postgresql://u@h/d?sslmode=maybe", "not one of PostgreSQL's"),
        ("postgresql://u@h/d?sslrootcert=x", "`sslrootcert` is not supported"),
        ("postgresql://u@h/d?connect_timeout=1", "`connect_timeout` does not belong"),
        ("postgresql://u@h/d?options=-c%20x", "unknown parameter `options`"),
        ("postgresql://u@h/d?application_name=x", "unknown parameter `application_name`"),
        ("host=h user=u dbname=d hostaddr=1.2.3.4", "`hostaddr` is not supported"),
        ("host=h user='u dbname=d", "neither"),
        ("host=h user='u'dbname=d", "neither"),
        ("host=h user", "neither"),
        ("host='a b' user=u dbname=d", "neither a host name"),
        ("postgresql://u:%00@h/d", "NUL"),
        ("postgresql://u@h/d#x", "well-formed"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(DsnError, match=message) as caught:
        parse_dsn(text, {})
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["${", "${}", "${a-b}", "${1}", "x${A"])
def test_what_is_no_variable(text: str) -> None:
    with pytest.raises(UnresolvedError):
        expand(text, {"A": "1"})


def test_dollars_are_text() -> None:
    assert expand("$A$${B}$$ {C} ${A}", {"A": "${A}"}) == "$A${B}$$ {C} ${A}"
