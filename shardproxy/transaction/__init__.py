"""Transactions over the shards: their state, their atomic commit, and the recovery of what a death leaves in doubt.

`state`, `savepoints` and `settings` are one session's transaction, without I/O. `coordinator.Coordinator` is what a
database has; `two_phase` is the protocol of one commit, `decisions` its arbitration, `recovery` what any proxy does
for a committer that is gone. Nothing is kept outside the shards.
"""
