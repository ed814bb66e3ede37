"""Where a load goes: any PostgreSQL, or a database of the proxy.

Both are a session of the proxy's own in this process (`inside`): what a client's COPY does and what the loader does is
the same code. `open` makes one of a configuration or of a DSN, `table` asks what the target is.
"""
