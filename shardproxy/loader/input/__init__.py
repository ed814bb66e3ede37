"""The reading side of the loader: from names of files to chunks of rows that COPY can read.

`open` finds what names mean, `compression` unpacks it, `preamble` reads what stands in front of the first row, `frames`
and `scan` find rows, `convert` changes what the options of `reading` ask for. `files` is all of it in one, and `ranges`
cuts a large file for several writers.
"""

from shardproxy.loader.input.alterations import Alteration, Alterations
from shardproxy.loader.input.chunk import Chunk, Fault, Place
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.files import File, read
from shardproxy.loader.input.reading import Column, Reading

__all__ = ["Alteration", "Alterations", "Chunk", "Column", "Fault", "File", "InputError", "Place", "Reading", "read"]
