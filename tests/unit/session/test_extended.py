"""The extended query protocol: transcripts."""

import asyncio

from tests.support.messages import (
    BOUND,
    CLOSED,
    EMPTY,
    FLUSH,
    NO_DATA,
    PARSED,
    SUSPENDED,
    SYNC,
    bind,
    close,
    columns,
    complete,
    describe,
    error,
    execute,
    parameters,
    parse,
    query,
    ready,
    row,
)
from tests.support.playbook import AT, FakeShard, Playbook

BY_KEY = "SELECT v FROM t WHERE id = $1"
ALL = "SELECT v FROM t"
KEY_0, KEY_1 = AT

INSERT = "INSERT INTO ref VALUES (1, 'x')"

BATCH_1 = parse("", BY_KEY), bind("", "", KEY_1), describe("P"), execute(), SYNC
"""What a driver sends for one statement, of shard 1."""

ANSWER = PARSED, BOUND, columns("v"), row("b"), complete("SELECT 1"), ready("I")


async def begun(shard: FakeShard) -> None:
    await shard.gets(query("BEGIN"))
    await shard.sends(complete("BEGIN"), ready("T"))


async def ended(shard: FakeShard, *how: str) -> None:
    for word in how or ("COMMIT",):
        await shard.gets(query(word))
        await shard.sends(complete(word), ready("I"))


async def rolled_back(shard: FakeShard) -> None:
    await ended(shard, "ROLLBACK")


async def joined(s0: FakeShard, s1: FakeShard) -> None:
    await begun(s0)
    await s0.gets()
    await begun(s1)


async def committed(*shards: FakeShard) -> None:
    """One-phase commit over several shards."""
    for shard in shards:
        await shard.gets(query("SET CONSTRAINTS ALL IMMEDIATE"))
        await shard.sends(complete("SET CONSTRAINTS"), ready("T"))
    for shard in shards:
        await ended(shard)


async def test_one_batch(playbook: Playbook) -> None:
    """A statement alone between two Syncs needs no transaction: one round trip."""
    client, s0, s1 = await playbook.session()
    await client.sends(*BATCH_1)
    await s1.gets(*BATCH_1)
    await s1.sends(*ANSWER)
    await client.gets(*ANSWER)
    await s0.gets()


async def test_one_message_at_a_time(playbook: Playbook) -> None:
    """Whether Execute is the last of its transaction is not known: it begins one, which Sync commits."""
    client, _, s1 = await playbook.session()
    *messages, _, _ = BATCH_1
    for message in messages:
        await client.sends(message)
        await client.gets()
    await client.sends(execute())
    await begun(s1)
    await s1.gets(*BATCH_1)
    await s1.sends(*ANSWER[:-1], ready("T"))
    await client.gets(*ANSWER[:-1])
    await client.sends(SYNC)
    await ended(s1)
    await client.gets(ready("I"))


async def test_two_statements_are_one_transaction(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    batch_0 = parse("", BY_KEY), bind("", "", KEY_0), execute()
    await client.sends(*batch_0, *BATCH_1)
    await begun(s0)
    await s0.gets(*batch_0, SYNC)
    await s0.sends(PARSED, BOUND, row("a"), complete("SELECT 1"), ready("T"))
    await client.gets(PARSED, BOUND, row("a"), complete("SELECT 1"))
    await begun(s1)
    await s1.gets(*BATCH_1)
    await s1.sends(*ANSWER[:-1], ready("T"))
    await client.gets(*ANSWER[:-1])
    await committed(s0, s1)
    await client.gets(ready("I"))


async def test_all_shards(playbook: Playbook) -> None:
    """Each acknowledgement and description once, and one tag."""
    client, s0, s1 = await playbook.session()
    batch = parse("", ALL), bind("", ""), describe("P"), execute(), SYNC
    await client.sends(*batch)
    await s0.gets(*batch)
    await s1.gets(*batch)
    await s1.sends(PARSED, BOUND)
    await client.gets(PARSED, BOUND)
    await s0.sends(PARSED, BOUND, columns("v"), row("a"), complete("SELECT 1"), ready("I"))
    await client.gets(columns("v"), row("a"))
    await s1.sends(columns("v"), row("b"), row("c"), complete("SELECT 2"), ready("I"))
    await client.gets(row("b"), row("c"), complete("SELECT 3"), ready("I"))


async def test_a_write_of_all_shards(playbook: Playbook) -> None:
    """A reference table: the first shard decides, and its answer is the client's; then the others do the same."""
    client, s0, s1 = await playbook.session()
    batch = parse("", INSERT), bind("", ""), describe("P"), execute(), SYNC
    await client.sends(*batch)
    await joined(s0, s1)
    await s0.gets(*batch)
    await s1.gets()
    await s0.sends(PARSED, BOUND, NO_DATA, complete("INSERT 0 1"), ready("T"))
    await client.gets(PARSED, BOUND, NO_DATA)
    await s1.gets(*batch)
    await s1.sends(PARSED, BOUND, NO_DATA, complete("INSERT 0 1"), ready("T"))
    await client.gets()
    await committed(s0, s1)
    await client.gets(complete("INSERT 0 1"), ready("I"))


async def test_a_write_that_changes_nothing_on_the_first_shard(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    batch = parse("", "DELETE FROM ref WHERE id = 1"), bind("", ""), execute(), SYNC
    await client.sends(*batch)
    await joined(s0, s1)
    await s0.gets(*batch)
    await s0.sends(PARSED, BOUND, complete("DELETE 0"), ready("T"))
    await client.gets(PARSED, BOUND)
    await committed(s0, s1)
    await client.gets(complete("DELETE 0"), ready("I"))


async def test_a_row_that_another_shard_does_not_show_yet(playbook: Playbook) -> None:
    """The race: the first shard has committed the row, and another is about to."""
    client, s0, s1 = await playbook.session()
    batch = parse("", "DELETE FROM ref WHERE id = 1"), bind("", ""), execute(), SYNC
    await client.sends(*batch)
    await joined(s0, s1)
    await s0.gets(*batch)
    await s0.sends(PARSED, BOUND, complete("DELETE 1"), ready("T"))
    await client.gets(PARSED, BOUND)
    await s1.gets(*batch)
    await s1.sends(PARSED, BOUND, complete("DELETE 0"), ready("T"))
    await s1.gets(query("SHOW transaction_isolation"))
    await s1.sends(columns("transaction_isolation"), row("read committed"), complete("SHOW"), ready("T"))
    await asyncio.sleep(0.01)
    await s1.gets(*batch)
    await s1.sends(PARSED, BOUND, complete("DELETE 1"), ready("T"))
    await committed(s0, s1)
    await client.gets(complete("DELETE 1"), ready("I"))


async def test_a_row_that_another_shards_snapshot_has_not(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    await client.sends(parse("", "DELETE FROM ref WHERE id = 1"), bind("", ""), execute(), SYNC)
    await joined(s0, s1)
    batch = parse("", "DELETE FROM ref WHERE id = 1"), bind("", ""), execute(), SYNC
    await s0.gets(*batch)
    await s0.sends(PARSED, BOUND, complete("DELETE 1"), ready("T"))
    await client.gets(PARSED, BOUND)
    await s1.gets(*batch)
    await s1.sends(PARSED, BOUND, complete("DELETE 0"), ready("T"))
    await s1.gets(query("SHOW transaction_isolation"))
    await s1.sends(columns("transaction_isolation"), row("repeatable read"), complete("SHOW"), ready("T"))
    await rolled_back(s0)
    await rolled_back(s1)
    await client.gets(error("40001"), ready("I"))


async def test_a_write_that_is_computed_once(playbook: Playbook) -> None:
    """The client's own messages come first; the rows are asked for by a statement of the proxy's."""
    client, s0, s1 = await playbook.session()
    sql = "INSERT INTO ref VALUES (1, (SELECT 'x')) RETURNING v"
    await client.sends(parse("", sql), bind("", ""), describe("P"), execute(), SYNC)
    await joined(s0, s1)
    more = '\n, ROW("ref"."id", "ref"."v")::pg_catalog.text'
    await s0.gets(parse("", sql), bind("", ""), describe("P"), parse("", sql + more), bind("", ""), execute(), SYNC)
    await s1.gets()
    rows = PARSED, BOUND, row("now", '(1,"a ""b""\\\\")'), complete("INSERT 0 1"), ready("T")
    await s0.sends(PARSED, BOUND, columns("v"), *rows)
    await client.gets(PARSED, BOUND, columns("v"), row("now"))
    insert = 'INSERT INTO "public"."ref" ("id", "v") OVERRIDING SYSTEM VALUE VALUES ($1, $2)'
    await s1.gets(parse("", insert), bind("", "", "1", 'a "b"\\'), execute(), SYNC)
    await s1.sends(PARSED, BOUND, complete("INSERT 0 1"), ready("T"))
    await committed(s0, s1)
    await client.gets(complete("INSERT 0 1"), ready("I"))


async def test_each_shard_by_itself(playbook: Playbook) -> None:
    """What runs in no transaction block runs shard after shard; the client reads one shard's answers and one NoData."""
    client, s0, s1 = await playbook.session()
    batch = parse("", "VACUUM t"), bind("", ""), describe("P"), execute(), SYNC
    await client.sends(*batch)
    await s0.gets(*batch)
    await s1.gets()
    await s0.sends(PARSED, BOUND, NO_DATA, complete("VACUUM"), ready("I"))
    await client.gets(PARSED, BOUND, NO_DATA)
    await s1.gets(*batch)
    await s1.sends(PARSED, BOUND, NO_DATA, complete("VACUUM"), ready("I"))
    await client.gets(complete("VACUUM"), ready("I"))


async def test_nothing(playbook: Playbook) -> None:
    client, _, _ = await playbook.session()
    await client.sends(parse("", ""), bind("", ""), describe("P"), execute(), SYNC)
    await client.gets(PARSED, BOUND, NO_DATA, EMPTY, ready("I"))


# Errors.


async def test_a_syntax_error_skips_to_sync(playbook: Playbook) -> None:
    client, s0, _ = await playbook.session()
    await client.sends(parse("", "SELEC"), bind("", ""), execute(), FLUSH, parse("", "also wrong"))
    await s0.gets(parse("shardproxy_1", "SELEC"), SYNC)
    await s0.sends(error("42601"), ready("I"))
    await client.gets(error("42601"))
    await client.sends(SYNC)
    await client.gets(ready("I"))
    await client.sends(SYNC)
    await client.gets(ready("I"))


async def refused(playbook: Playbook, accepted: int) -> None:
    """The shard accepts that many messages of the batch, and refuses the next."""
    client, s0, s1 = await playbook.session()
    await client.sends(*BATCH_1)
    await s1.gets(*BATCH_1)
    await s1.sends(*ANSWER[:accepted], error("22P02"), ready("I"))
    await client.gets(*ANSWER[:accepted], error("22P02"), ready("I"))
    await client.sends(*BATCH_1)
    await s1.gets(*BATCH_1)
    await s1.sends(*ANSWER)
    await client.gets(*ANSWER)
    await s0.gets()


async def test_parse_refused(playbook: Playbook) -> None:
    await refused(playbook, 0)


async def test_bind_refused(playbook: Playbook) -> None:
    await refused(playbook, 1)


async def test_describe_refused(playbook: Playbook) -> None:
    await refused(playbook, 2)


async def test_execute_refused(playbook: Playbook) -> None:
    await refused(playbook, 3)


async def test_execute_refused_after_a_row(playbook: Playbook) -> None:
    await refused(playbook, 4)


async def test_an_error_rolls_an_implicit_transaction_back(playbook: Playbook) -> None:
    """What follows it up to Sync is skipped, on the shards as well."""
    client, s0, s1 = await playbook.session()
    batch_0 = parse("", BY_KEY), bind("", "", KEY_0), execute()
    await client.sends(*batch_0, *BATCH_1[:-1], *batch_0, SYNC)
    await begun(s0)
    await s0.gets(*batch_0, SYNC)
    await s0.sends(PARSED, BOUND, row("a"), complete("SELECT 1"), ready("T"))
    await client.gets(PARSED, BOUND, row("a"), complete("SELECT 1"))
    await begun(s1)
    await s1.gets(*BATCH_1)
    await s1.sends(PARSED, BOUND, error("22P02"), ready("E"))
    await client.gets(PARSED, BOUND)
    await rolled_back(s0)
    await client.gets()
    await rolled_back(s1)
    await client.gets(error("22P02"), ready("I"))


async def test_an_error_answers_after_all_that_came_earlier(playbook: Playbook) -> None:
    """Bind of a statement that does not exist: the Parse in front of it is answered first."""
    client, s0, _ = await playbook.session()
    await client.sends(parse("a", BY_KEY), bind("", "b"), SYNC)
    await s0.gets(parse("a", BY_KEY), SYNC)
    await client.gets()
    await s0.sends(PARSED, ready("I"))
    await client.gets(PARSED, error("26000", 'prepared statement "b" does not exist'), ready("I"))


async def test_the_earlier_error_is_the_answer(playbook: Playbook) -> None:
    client, s0, _ = await playbook.session()
    await client.sends(parse("a", BY_KEY), bind("", "b"), SYNC)
    await s0.gets(parse("a", BY_KEY), SYNC)
    await s0.sends(error("42703"), ready("I"))
    await client.gets(error("42703"), ready("I"))


# Prepared statements.


async def test_named_statement_on_another_shard(playbook: Playbook) -> None:
    """Parse + Describe + Sync asks the home shard; Execute prepares it where the key leads, unseen by the client."""
    client, s0, s1 = await playbook.session()
    await client.sends(parse("a", BY_KEY), describe("S", "a"), SYNC)
    await s0.gets(parse("a", BY_KEY), describe("S", "a"), SYNC)
    await s0.sends(PARSED, parameters(23), columns("v"), ready("I"))
    await client.gets(PARSED, parameters(23), columns("v"), ready("I"))
    await client.sends(bind("", "a", KEY_1), execute(), SYNC)
    await s1.gets(parse("a", BY_KEY, 23), bind("", "a", KEY_1), execute(), SYNC)
    await s1.sends(PARSED, BOUND, row("b"), complete("SELECT 1"), ready("I"))
    await client.gets(BOUND, row("b"), complete("SELECT 1"), ready("I"))


async def test_first_use_on_a_shard_fails(playbook: Playbook) -> None:
    """At Parse: the shard does not have the statement and gets it again; 26000 for ever would be wrong."""
    client, s0, s1 = await playbook.session()
    await client.sends(parse("a", BY_KEY), SYNC)
    await s0.gets(parse("a", BY_KEY), SYNC)
    await s0.sends(PARSED, ready("I"))
    await client.gets(PARSED, ready("I"))
    first = parse("a", BY_KEY), bind("", "a", KEY_1), execute(), SYNC
    for _ in range(2):
        await client.sends(bind("", "a", KEY_1), execute(), SYNC)
        await s1.gets(*first)
        await s1.sends(error("55P03"), ready("I"))
        await client.gets(error("55P03"), ready("I"))
    await client.sends(bind("", "a", KEY_1), execute(), SYNC)
    await s1.gets(*first)
    await s1.sends(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(BOUND, complete("SELECT 0"), ready("I"))


async def test_first_use_on_a_shard_fails_at_bind(playbook: Playbook) -> None:
    """The Parse was accepted: the shard has the statement, and gets it once."""
    client, s0, s1 = await playbook.session()
    await client.sends(parse("a", BY_KEY), SYNC)
    await s0.gets(parse("a", BY_KEY), SYNC)
    await s0.sends(PARSED, ready("I"))
    await client.gets(PARSED, ready("I"))
    use = bind("", "a", KEY_1), execute(), SYNC
    await client.sends(bind("", "a", KEY_1), execute(), SYNC)
    await s1.gets(parse("a", BY_KEY), *use)
    await s1.sends(PARSED, error("55P03"), ready("I"))
    await client.gets(error("55P03"), ready("I"))
    await client.sends(bind("", "a", KEY_1), execute(), SYNC)
    await s1.gets(*use)
    await s1.sends(BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(BOUND, complete("SELECT 0"), ready("I"))


async def test_a_statement_that_fails_at_parse_is_not_prepared(playbook: Playbook) -> None:
    client, s0, _ = await playbook.session()
    await client.sends(parse("a", BY_KEY), SYNC)
    await s0.gets(parse("a", BY_KEY), SYNC)
    await s0.sends(error("42703"), ready("I"))
    await client.gets(error("42703"), ready("I"))
    await client.sends(bind("", "a", KEY_1), execute(), SYNC)
    await client.gets(error("26000"), ready("I"))
    await client.sends(parse("a", ALL), SYNC)
    await s0.gets(parse("a", ALL), SYNC)
    await s0.sends(PARSED, ready("I"))
    await client.gets(PARSED, ready("I"))


async def test_a_statement_that_fails_at_bind_stays_prepared(playbook: Playbook) -> None:
    client, _, s1 = await playbook.session()
    await client.sends(parse("a", BY_KEY), bind("", "a", KEY_1), execute(), SYNC)
    use = bind("", "a", KEY_1), execute(), SYNC
    await s1.gets(parse("a", BY_KEY), *use)
    await s1.sends(PARSED, error("22P02"), ready("I"))
    await client.gets(PARSED, error("22P02"), ready("I"))
    await client.sends(parse("a", BY_KEY), SYNC)
    await client.gets(error("42P05"), ready("I"))
    await client.sends(bind("", "a", KEY_1), execute(), SYNC)
    await s1.gets(*use)
    await s1.sends(BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(BOUND, complete("SELECT 0"), ready("I"))


async def test_an_error_names_the_statement_as_the_client_does(playbook: Playbook) -> None:
    client, s0, _ = await playbook.session()
    await client.sends(parse("a", BY_KEY), SYNC)
    await s0.gets(parse("a", BY_KEY), SYNC)
    await s0.sends(PARSED, ready("I"))
    await client.gets(PARSED, ready("I"))
    await client.sends(bind("", "a", KEY_0), execute(), SYNC)
    await s0.gets(bind("", "a", KEY_0), execute(), SYNC)
    words = 'bind message supplies 1 parameters, but prepared statement "a" requires 2'
    await s0.sends(error("08P01", words), ready("I"))
    await client.gets(error("08P01", words), ready("I"))


async def test_a_statement_that_is_named_as_the_proxy_names_its_own(playbook: Playbook) -> None:
    client, s0, _ = await playbook.session()
    await client.sends(parse("shardproxy_9", BY_KEY), SYNC)
    await s0.gets(parse("shardproxy_1", BY_KEY), SYNC)
    words = 'something about prepared statement "{}"'
    await s0.sends(PARSED, ready("I"))
    await client.gets(PARSED, ready("I"))
    await client.sends(bind("", "shardproxy_9", KEY_0), execute(), SYNC)
    await s0.gets(bind("", "shardproxy_1", KEY_0), execute(), SYNC)
    await s0.sends(error("08P01", words.format("shardproxy_1")), ready("I"))
    await client.gets(error("08P01", words.format("shardproxy_9")), ready("I"))


async def test_flush(playbook: Playbook) -> None:
    """Parse + Describe + Flush is answered without Sync; what follows is in the same batch."""
    client, s0, s1 = await playbook.session()
    await client.sends(parse("", BY_KEY), describe("S"), FLUSH)
    await s0.gets(parse("", BY_KEY), describe("S"), SYNC)
    await s0.sends(PARSED, parameters(23), columns("v"), ready("I"))
    await client.gets(PARSED, parameters(23), columns("v"))
    await client.sends(bind("", "", KEY_1), execute(), SYNC)
    await s1.gets(parse("", BY_KEY, 23), bind("", "", KEY_1), execute(), SYNC)
    await s1.sends(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(BOUND, complete("SELECT 0"), ready("I"))


async def test_close_frees_the_statement_on_every_shard(playbook: Playbook) -> None:
    """In front of what is sent there next: it costs no round trip, and a name that is used again is another's."""
    client, s0, s1 = await playbook.session()
    await client.sends(parse("a", BY_KEY), bind("", "a", KEY_1), execute(), SYNC)
    await s1.gets(parse("a", BY_KEY), bind("", "a", KEY_1), execute(), SYNC)
    await s1.sends(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await client.sends(close("S", "a"), close("S", "never"), SYNC)
    await client.gets(CLOSED, CLOSED, ready("I"))
    await s1.gets()
    sql = f"SELECT id FROM t WHERE id = {KEY_1}"
    await client.sends(parse("a", sql), bind("", "a"), execute(), SYNC)
    await s1.gets(close("S", "a"), parse("a", sql), bind("", "a"), execute(), SYNC)
    await s1.sends(CLOSED, PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await s0.gets()


async def test_a_closed_statement_in_front_of_a_query(playbook: Playbook) -> None:
    client, _, s1 = await playbook.session()
    await client.sends(parse("a", BY_KEY), bind("", "a", KEY_1), execute(), close("S", "a"), SYNC)
    await begun(s1)
    await s1.gets(parse("a", BY_KEY), bind("", "a", KEY_1), execute(), SYNC)
    await s1.sends(PARSED, BOUND, complete("SELECT 0"), ready("T"))
    await s1.gets(close("S", "a"), SYNC, query("COMMIT"))
    await client.gets(PARSED, BOUND, complete("SELECT 0"), CLOSED)
    await s1.sends(CLOSED, ready("T"), complete("COMMIT"), ready("I"))
    await client.gets(ready("I"))


async def test_discard_all(playbook: Playbook) -> None:
    """No statement is left, on the shards or of the client's."""
    client, s0, _ = await playbook.session()
    await client.sends(parse("a", BY_KEY), bind("", "a", KEY_0), execute(), SYNC)
    await s0.gets(parse("a", BY_KEY), bind("", "a", KEY_0), execute(), SYNC)
    await s0.sends(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    batch = parse("", "DISCARD ALL"), bind("", ""), execute(), SYNC
    await client.sends(*batch)
    await s0.gets(*batch)
    await s0.sends(PARSED, BOUND, complete("DISCARD ALL"), ready("I"))
    await client.gets(PARSED, BOUND, complete("DISCARD ALL"), ready("I"))
    await client.sends(bind("", "a", KEY_0), execute(), SYNC)
    await client.gets(error("26000"), ready("I"))
    await client.sends(parse("a", BY_KEY), bind("", "a", KEY_0), execute(), SYNC)
    await s0.gets(parse("a", BY_KEY), bind("", "a", KEY_0), execute(), SYNC)
    await s0.sends(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(PARSED, BOUND, complete("SELECT 0"), ready("I"))


async def test_parameters_for_what_has_none(playbook: Playbook) -> None:
    """BEGIN and the like reach no shard at Bind, which is refused as PostgreSQL does."""
    client, _, _ = await playbook.session()
    for sql in ("BEGIN", "SAVEPOINT a", "", "COPY t FROM STDIN"):
        await client.sends(parse("", sql), bind("", "", "1"), execute(), SYNC)
        words = 'bind message supplies 1 parameters, but prepared statement "" requires 0'
        await client.gets(PARSED, error("08P01", words), ready("I"))


async def test_a_binary_key_whose_type_is_not_known(playbook: Playbook) -> None:
    """A shard is asked for the parameter's type first, unseen by the client."""
    client, s0, s1 = await playbook.session()
    value = b"\0\0\0\3"
    await client.sends(parse("", BY_KEY), bind("", "", value, binary=True), execute(), SYNC)
    await s0.gets(parse("", BY_KEY), bind("", "", value, binary=True), SYNC)
    await s0.sends(PARSED, BOUND, ready("I"))
    await client.gets(PARSED, BOUND)
    await s0.gets(describe("S"), SYNC)
    await s0.sends(parameters(23), columns("v"), ready("I"))
    await s1.gets(parse("", BY_KEY, 23), bind("", "", value, binary=True), execute(), SYNC)
    await s1.sends(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(complete("SELECT 0"), ready("I"))


# Portals that are read in pieces.

THERE = "shardproxy_1"
"""A portal's name on the shards."""

PORTAL = parse("", ALL), bind("p", ""), describe("P", "p")


async def test_rows_in_pieces_of_two_shards(playbook: Playbook) -> None:
    """One shard after the other; a shard's portal stays open between the pieces, in a transaction."""
    client, s0, s1 = await playbook.session()
    await client.sends(*PORTAL, execute("p", 2), FLUSH)
    await begun(s0)
    await begun(s1)
    await s0.gets(parse("", ALL), bind(THERE, ""), describe("P", THERE), execute(THERE, 2), SYNC)
    await s0.sends(PARSED, BOUND, columns("v"), row("1"), row("2"), SUSPENDED, ready("T"))
    await client.gets(PARSED, BOUND, columns("v"), row("1"), row("2"), SUSPENDED)
    await client.sends(execute("p", 2), FLUSH)
    await s0.gets(execute(THERE, 2), SYNC)
    await s0.sends(row("3"), complete("SELECT 1"), ready("T"))
    await client.gets(row("3"))
    await s1.gets(parse("", ALL), bind(THERE, ""), execute(THERE, 1), SYNC)
    await s1.sends(PARSED, BOUND, row("4"), SUSPENDED, ready("T"))
    await client.gets(row("4"), SUSPENDED)
    await client.sends(execute("p"), SYNC)
    await s1.gets(execute(THERE), SYNC)
    await s1.sends(row("5"), complete("SELECT 1"), ready("T"))
    await client.gets(row("5"), complete("SELECT 1"))
    await committed(s0, s1)
    await client.gets(ready("I"))


async def test_returning_with_a_limit(playbook: Playbook) -> None:
    """The description comes before the first row. Sync ends the transaction, and with it the portal."""
    client, _, s1 = await playbook.session()
    sql = f"UPDATE t SET v = 'x' WHERE id = {KEY_1} RETURNING v"
    await client.sends(parse("", sql), bind("", ""), describe("P"), execute("", 1), execute("", 1), SYNC)
    await begun(s1)
    await s1.gets(parse("", sql), bind(THERE, ""), describe("P", THERE), execute(THERE, 1), SYNC)
    await s1.sends(PARSED, BOUND, columns("v"), row("x"), SUSPENDED, ready("T"))
    await client.gets(PARSED, BOUND, columns("v"), row("x"), SUSPENDED)
    await s1.gets(execute(THERE, 1), SYNC)
    await s1.sends(row("x"), complete("UPDATE 1"), ready("T"))
    await client.gets(row("x"), complete("UPDATE 1"))
    await ended(s1)
    await client.gets(ready("I"))


async def test_returning_with_a_limit_of_a_reference_table(playbook: Playbook) -> None:
    """It is carried out on all shards before its rows are given."""
    client, s0, s1 = await playbook.session()
    sql = f"{INSERT}, (2, 'y') RETURNING v"
    await client.sends(
        parse("", sql), bind("p", ""), describe("P", "p"), execute("p", 1), execute("p", 1), execute("p"), SYNC
    )
    await joined(s0, s1)
    batch = parse("", sql), bind("", ""), describe("P"), execute(), SYNC
    await s0.gets(*batch)
    await s0.sends(PARSED, BOUND, columns("v"), row("x"), row("y"), complete("INSERT 0 2"), ready("T"))
    await client.gets(PARSED, BOUND, columns("v"))
    await s1.gets(*batch)
    await s1.sends(PARSED, BOUND, columns("v"), row("x"), row("y"), complete("INSERT 0 2"), ready("T"))
    await client.gets(row("x"), SUSPENDED, row("y"), SUSPENDED, complete("INSERT 0 0"))
    await committed(s0, s1)
    await client.gets(ready("I"))


async def test_a_limit_for_what_has_no_rows(playbook: Playbook) -> None:
    """JDBC's executeUpdate: one NoData."""
    client, s0, s1 = await playbook.session()
    await client.sends(parse("", INSERT), bind("", ""), describe("P"), execute("", 1), SYNC)
    await joined(s0, s1)
    batch = parse("", INSERT), bind("", ""), describe("P"), execute(), SYNC
    for shard in (s0, s1):
        await shard.gets(*batch)
        await shard.sends(PARSED, BOUND, NO_DATA, complete("INSERT 0 1"), ready("T"))
    await client.gets(PARSED, BOUND, NO_DATA)
    await committed(s0, s1)
    await client.gets(complete("INSERT 0 1"), ready("I"))


async def test_a_portal_that_is_read_on_after_its_end(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    await client.sends(parse("", BY_KEY), bind("p", "", KEY_1), execute("p"), execute("p"), SYNC)
    await begun(s1)
    await s1.gets(parse("", BY_KEY), bind("", "", KEY_1), execute(), SYNC)
    await s1.sends(PARSED, BOUND, row("b"), complete("SELECT 1"), ready("T"))
    await client.gets(PARSED, BOUND, row("b"), complete("SELECT 1"), complete("SELECT 0"))
    await ended(s1)
    await client.gets(ready("I"))
    await client.sends(execute("p"), SYNC)
    await client.gets(error("34000"), ready("I"))
    await s0.gets()


async def test_an_error_in_the_second_shard_of_a_portal(playbook: Playbook) -> None:
    """The rows that came before it stay; both shards are rolled back; the portal is no more."""
    client, s0, s1 = await playbook.session()
    await client.sends(*PORTAL, execute("p", 2), FLUSH)
    await begun(s0)
    await begun(s1)
    await s0.gets(parse("", ALL), bind(THERE, ""), describe("P", THERE), execute(THERE, 2), SYNC)
    await s0.sends(PARSED, BOUND, columns("v"), row("1"), complete("SELECT 1"), ready("T"))
    await client.gets(PARSED, BOUND, columns("v"), row("1"))
    await s1.gets(parse("", ALL), bind(THERE, ""), execute(THERE, 1), SYNC)
    await s1.sends(PARSED, BOUND, error("22012"), ready("E"))
    await s0.gets(close("P", THERE), SYNC, query("ROLLBACK"))
    await s0.sends(CLOSED, ready("T"), complete("ROLLBACK"), ready("I"))
    await s1.gets(close("P", THERE), SYNC, query("ROLLBACK"))
    await client.gets()
    await s1.sends(CLOSED, ready("E"), complete("ROLLBACK"), ready("I"))
    await client.gets(error("22012"))
    await client.sends(execute("p"), SYNC)
    await client.gets(ready("I"))
