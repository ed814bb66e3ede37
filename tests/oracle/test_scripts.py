"""The statements of a script for psql."""

from tests.oracle.scripts import statements


def said(text: str, **variables: str) -> list[str]:
    return [one.sql.strip() for one in statements(text, variables)]


def test_semicolons_inside_of_quotes_comments_and_bodies_end_nothing() -> None:
    assert said("SELECT ';', $$;$$, $a$;$$;$a$; -- ;\nSELECT /* ; /* ; */ ; */ E'\\';' ;") == [
        "SELECT ';', $$;$$, $a$;$$;$a$",
        "SELECT  E'\\';'",
    ]
    assert said("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3;") == [
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
        "SELECT 3",
    ]
    body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END"
    assert said(body + "; SELECT 1;") == [body, "SELECT 1"]


def test_commands_of_psql() -> None:
    assert said("SELECT 1 \\gset\n\\echo x;\nSELECT 2 \\; SELECT 3;") == ["SELECT 1", "SELECT 2 ; SELECT 3"]
    assert said("\\set file :dir '/a.data'\nCOPY t FROM :'file'; SELECT x::int, a[1:2];", dir="/d") == [
        "COPY t FROM '/d/a.data'",
        "SELECT x::int, a[1:2]",
    ]
    assert [one.connect for one in statements("\\c -\nSELECT 1;", {})] == [True, False]


def test_data_of_copy() -> None:
    text = "COPY t FROM stdin;\n1;\n\\.\nSELECT 1;"
    assert [(one.sql.strip(), one.data) for one in statements(text, {})] == [
        ("COPY t FROM stdin", b"1;\n"),
        ("SELECT 1", None),
    ]
