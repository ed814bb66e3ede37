"""The limit of open files, in processes of their own, as a limit once lowered stays so."""

import subprocess
import sys

import pytest

from shardproxy.server.descriptors import OWN

SCRIPT = """
import logging, resource, sys
from shardproxy.config import parse
from shardproxy.server.descriptors import allow_descriptors
logging.basicConfig(stream=sys.stdout, format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
shards = ", ".join(f'{{ name = "s{n}", dsn = "postgresql://u@h:{n + 1}/d" }}' for n in range(3))
allow_descriptors(parse(f'[server]\\nmax_clients = 20\\n[[databases]]\\nname = "shop"\\nshards = [{shards}]'))
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
NEEDED = OWN + 20 * 4


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [(50, 500, (NEEDED, 500)), (300, 500, (300, 500)), (50, NEEDED, (NEEDED, NEEDED)), (50, 100, (100, 100))],
)
def test_the_soft_limit_is_raised_to_what_can_be_needed(soft: int, hard: int, expected: tuple[int, int]) -> None:
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    *said, limits = done.stdout.splitlines()
    assert limits == str(expected)
    assert len(said) == (expected[0] < NEEDED)
    if said:
        assert f"can need {NEEDED} open files, and the limit is 100" in said[0]
