"""The only sockets of client traffic: a stream for either side, and how a shard is dialled and cancelled."""
