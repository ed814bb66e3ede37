"""Fuzzers: of the C core with libFuzzer, of both sides of the protocol in Python."""
