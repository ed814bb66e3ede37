"""The process: listener, workers, signals, and the commands `serve`, `check` and `explain`.

Imports whatever is below it; nobody but `cli`, `demo` and `embedded` is above.
"""
