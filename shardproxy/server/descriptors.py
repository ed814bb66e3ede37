"""Open files that a serving process may have: one for each client, and one for each shard that the client uses.

The soft limit of a shell or of systemd is often 1024, for programs that call select(), which this one does not. So it
is raised to what the configuration can need, as far as the hard limit allows. If that is too low, the start logs a
warning, since an event loop without free descriptors closes clients without an error.
"""

import logging
import resource

from shardproxy.config import Config

log = logging.getLogger(__name__)

OWN = 64
"""Descriptors for everything else: the log, the listening socket, connections of recovery."""


def allow_descriptors(config: Config) -> None:
    """Raise the soft limit to what `max_clients` clients that use all shards need; warn if that is impossible."""
    shards = max(len(database.shards) for database in config.databases)
    needed = OWN + config.server.max_clients * (1 + shards)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    if target < needed:
        log.warning(
            "max_clients = %d, each with a connection to %d shards, can need %d open files, and the limit is %d. "
            "Raise it (ulimit -Hn, or LimitNOFILE in systemd), or lower max_clients.",
            config.server.max_clients,
            shards,
            needed,
            target,
        )
