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
}
