"""shardproxy: COPY and applications over many PostgreSQL servers through one address."""

__version__ = "0.1.0"
