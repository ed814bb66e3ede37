"""The place of the bulk loader, beside `session`: a second source of data for the engine's COPY.

Holds no code yet, so `shardproxy load` is refused. It may import `engine` and what is below, never `session`.
"""
