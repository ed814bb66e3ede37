"""The tables of the SQL storm, and the configuration of a proxy over them.

Each write leaves its number, its mark: in a row's `op`, in an array `ops` that it is appended to, or by the absence of
the row `victim` that was given to it alone. So each can be counted afterwards.
"""

from collections.abc import Sequence

from tests.support.databases import toml

SHARDS = 3
KEYS = 60
"""Rows that are updated again and again; few, so that sessions meet."""
VICTIMS = 20_000
OWNED = 240
"""Tables that DDL sessions make, of each placement, one after the other."""

SHARDED = ("h", "acc", "victims_h", "w")
SINGLE = {"one": "s1", "one_log": "s1"}
REFERENCE = ("ref_serial", "ref_keys", "ref_plain", "ref_nokey", "victims_r", "ref_trigger")

_EVERYWHERE = f"""
CREATE TABLE h (id int8 PRIMARY KEY, op int8 NOT NULL, note text DEFAULT 'x');
CREATE INDEX ON h (op);
CREATE TABLE acc (id int8 PRIMARY KEY, ops int8[] NOT NULL, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE victims_h (id int8 PRIMARY KEY);
CREATE TABLE w (id int8 PRIMARY KEY, op int8 NOT NULL);
CREATE TABLE ref_serial (id serial PRIMARY KEY, op int8 NOT NULL, at timestamptz DEFAULT clock_timestamp(),
  r float8 DEFAULT random());
CREATE TABLE ref_keys (id int8 PRIMARY KEY, ops int8[] NOT NULL, at timestamptz);
CREATE TABLE ref_plain (id int8 PRIMARY KEY, op int8 NOT NULL);
CREATE TABLE ref_nokey (op int8 NOT NULL, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE ref_trigger (id serial PRIMARY KEY, op int8 NOT NULL, at timestamptz);
CREATE TABLE victims_r (id int8 PRIMARY KEY);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.at := clock_timestamp(); RETURN NEW; END';
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON ref_trigger FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TABLE placed (id int8) PARTITION BY HASH (id);
INSERT INTO ref_keys SELECT k, '{{}}', 'epoch' FROM generate_series(1, {KEYS}) k;
INSERT INTO victims_r SELECT k FROM generate_series(1, {VICTIMS}) k;
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql
  AS 'BEGIN INSERT INTO one_log (op) VALUES (NEW.op); RETURN NULL; END';
CREATE TRIGGER log_it AFTER INSERT ON w FOR EACH ROW EXECUTE FUNCTION log_it();
"""
_HERE = "satisfies_hash_partition('placed'::regclass, {shards}, {at}, k)"
_PART = """
INSERT INTO acc SELECT k, '{{}}', 'epoch' FROM generate_series(1::int8, {keys}) k WHERE {here};
INSERT INTO victims_h SELECT k FROM generate_series(1::int8, {victims}) k WHERE {here};
"""
_ON_ONE = """
CREATE TABLE one (id int8 PRIMARY KEY, op int8 NOT NULL);
CREATE TABLE one_log (n serial, op int8 NOT NULL);
CREATE TRIGGER log_it AFTER INSERT ON one FOR EACH ROW EXECUTE FUNCTION log_it();
"""

_CONFIG = """\
[server]
listen = "127.0.0.1:0"
drain_timeout = 2.0
[[databases]]
name = "shop"
commit = "two-phase"
unlisted_tables = "reference"
shards = {shards}
connect_timeout = {seconds}
stall_timeout = {seconds}
prepare_timeout = {seconds}
commit_timeout = {seconds}
deadlock_timeout = 10.0
"""


def tables(at: int) -> str:
    """Return the SQL that makes a shard's tables."""
    here = _HERE.format(shards=SHARDS, at=at)
    return _EVERYWHERE + _PART.format(keys=KEYS, victims=VICTIMS, here=here) + (_ON_ONE if at == 1 else "")


def owned(placement: str, number: int) -> str:
    """Return the name of a table of a DDL session."""
    return f"ddl_{placement}_{number}"


def config(dsns: Sequence[str], seconds: float) -> str:
    """Write the configuration; every deadline is `seconds`."""
    shards = [{"name": f"s{number}", "dsn": dsn} for number, dsn in enumerate(dsns)]
    text = _CONFIG.format(shards=toml(shards), seconds=seconds)
    for name in (*SHARDED, *(owned("hash", number) for number in range(OWNED))):
        text += f'[[databases.tables]]\nname = "{name}"\nplacement = "hash"\nkey = ["id"]\n'
    for name, shard in SINGLE.items():
        text += f'[[databases.tables]]\nname = "{name}"\nplacement = "single"\nshard = "{shard}"\n'
    return text
