"""COPY without I/O: what the options of a COPY mean for splitting its rows and finding their keys."""
