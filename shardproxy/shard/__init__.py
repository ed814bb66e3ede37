"""What all connections to a shard have in common: its address, and the errors of one that fails.

`control` has the connections of the proxy's own; those that carry clients' statements are `backend`'s.
"""
