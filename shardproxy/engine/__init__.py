"""What a statement does to the shards, whoever asks: routing carried out, COPY in and out, results, transactions.

Imports `backend`, `commit`, `plan`, `config` and the layers without I/O; knows no client protocol and no session.
"""
