"""The bulk loader: files, and later other databases, into one PostgreSQL or a sharded database of the proxy."""
