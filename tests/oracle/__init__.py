"""The oracle for SQL: random statements on one PostgreSQL and through the proxy over three shards, and equal answers.

`python -m tests.oracle --help` tells of its parts; README.md in this folder of how a difference is read.
"""
