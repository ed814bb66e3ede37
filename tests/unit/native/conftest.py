"""What the splitter's tests share."""

from collections.abc import Iterator

import pytest

from shardproxy.native import force_simd, simd_paths


@pytest.fixture(scope="module", params=simd_paths())
def simd_path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each path of the splitter that runs on this machine."""
    force_simd(request.param)
    yield request.param
    force_simd(None)
