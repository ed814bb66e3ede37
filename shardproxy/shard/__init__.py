"""One shard as a session sees it: its connection and protocol, what was prepared there, its catalogs."""
