"""The bulk loader: files into any PostgreSQL or a database of the proxy.

`input` reads them, `target` is where the rows go, `run` is a load from its beginning to its end. A target is a session
of the proxy's own in this process, so that a load is what a client's COPY is. `command` is the command line, `api` the
library.
"""

from shardproxy.loader.api import load
from shardproxy.loader.options import LoadOptions, options_of
from shardproxy.loader.run import Load
from shardproxy.loader.summary import Summary

__all__ = ["Load", "LoadOptions", "Summary", "load", "options_of"]
