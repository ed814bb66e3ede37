# cython: language_level=3, embedsignature=False
"""The native core's Python face. One extension module, one included file per part."""

import enum

include "keytypes.pxi"
include "placement.pxi"
include "simd.pxi"
include "sink.pxi"
include "splitter.pxi"
include "checker.pxi"
include "merge.pxi"
include "statements.pxi"
include "rows.pxi"
