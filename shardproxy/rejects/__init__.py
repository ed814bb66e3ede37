"""L5: rows that a load can do without. What a reject is, how it is found among good rows, and where it is kept.

The proxy's COPY with `shardproxy.on_error = 'resume_next'` and `shardproxy load` share it.
"""
