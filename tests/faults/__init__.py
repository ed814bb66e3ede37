"""Proof by breaking things: a matrix of faults at each protocol step, outcomes by name, kill storms, hostile peers."""
