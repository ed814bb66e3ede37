"""The scripted cases of the proof, run by pytest, as figures: hostile peers, and every outcome of the commit.

python -m tests.faults.scripted hostile
python -m tests.faults.scripted outcomes
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.faults.record import Figure, Record, Recorder, add_options

SETS = {
    "hostile": [
        "tests/faults/test_hostile_clients.py",
        "tests/faults/test_hostile_shard.py",
        "tests/faults/test_idle_cost.py::test_no_task_stays_behind",
        "tests/integration/test_login.py",
    ],
    "outcomes": ["tests/faults/test_outcomes.py"],
}
SAID = {
    "hostile": [
        "clients: forged lengths, floods of half start-ups, one byte a second, guessed cancel keys, wrong passwords, "
        "newlines in names, clients that do not read, plaintext after SSLRequest",
        "shards that lie: wrong tags, wrong states, forged and cut messages, answers too many, NOTICE without end",
    ],
    "outcomes": [
        "the client, the proxy or a shard dies or stalls at each step; lost answers; disk full; no connection slots; "
        "timeouts; deferred constraints; two proxies that recover at once",
    ],
}
ROOT = Path(__file__).parents[2]
LOOK = 0.5  # seconds


def run(name: str, recorder: Recorder) -> Record:
    """Run a set, and read what pytest has written down."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}", *SETS[name]]
        process = subprocess.Popen(argv, cwd=ROOT)
        asked = False
        while process.poll() is None:
            try:
                process.wait(LOOK)
            except subprocess.TimeoutExpired:
                if recorder.over and not asked:
                    asked = True
                    process.send_signal(signal.SIGINT)
        tests = list(ET.parse(report).getroot().iter("testcase")) if report.exists() else []
    record = Record([Figure(f"scripted cases, {name}", len(tests))], list(SAID[name]))
    if recorder.over:
        record.lines.append("its time was up before all were run")
    for test in tests:
        for kind in ("failure", "error"):
            found = test.find(kind)
            if found is not None:
                record.violations.append(f"{test.get('name')}: {found.get('message', kind)}")
    if not tests and not recorder.over:
        record.violations.append(f"pytest has ended with {process.returncode} and no report")
    return record


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.scripted", description=__doc__)
    parser.add_argument("name", choices=sorted(SETS))
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    return recorder.finish(run(arguments.name, recorder))


if __name__ == "__main__":
    sys.exit(main())
