"""Rows of another database as the input of a load.

`open` finds what an address means, a module for each kind of database reads it, `rows` makes chunks for COPY of what
they give, `values` has what a value becomes on its way.
"""
