"""The tests. PostgreSQL is the oracle wherever it can be."""
