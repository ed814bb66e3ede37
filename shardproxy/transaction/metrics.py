"""What commit and recovery count, in prometheus_client's default registry.

Imported when there is something to count, as prometheus_client takes long.
"""

from prometheus_client import Counter, Gauge

IN_DOUBT = Gauge(
    "shardproxy_in_doubt_transactions",
    "Transactions that are prepared on some shard and have no committer, as of the last recovery pass",
    ["database"],
)
OLDEST = Gauge(
    "shardproxy_in_doubt_oldest_seconds",
    "Seconds since the oldest transaction in doubt was prepared; 0 if there is none",
    ["database"],
)
COMMITS = Counter(
    "shardproxy_distributed_commits",
    "Transactions over several participants by how they ended: committed, rolled_back or unknown",
    ["database", "outcome"],
)
RECOVERED = Counter(
    "shardproxy_recovered_transactions",
    "Prepared transactions that recovery has finished, by outcome: commit or abort",
    ["database", "outcome"],
)
