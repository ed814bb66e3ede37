"""L0: which shard a row belongs to, from the table's configuration and its catalog facts. Sans-IO."""
