"""The process: listener, workers, signals, and the commands `serve`, `check` and `explain`.

May import every layer below; only `cli`, `demo` and `embedded` are above.
"""
