"""How the answers of several shards become the answer of one server: messages in, messages out. Sans-IO."""
