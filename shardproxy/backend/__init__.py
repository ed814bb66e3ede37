"""One connection to one shard, the socket under it, and the questions to a shard's catalogs.

Imports only the layers without I/O (`wire`, `sharding`, ...); knows no client and no other shard.
"""
