"""Measurements, each beside a baseline from the same run; see README.md."""

import os

# What is measured is started again and again, as by users whose modules are compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
