"""Atomic commit over shards: one phase or two, and the recovery of what a death has left in doubt.

`coordinator.Coordinator` is what a database has; `two_phase` is the protocol of one transaction, `decisions` its
arbitration, `recovery` what any proxy does for a committer that is gone. No state but the shards' own.
"""
