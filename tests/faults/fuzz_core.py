"""The long fuzz run of the C core under AddressSanitizer and UndefinedBehaviorSanitizer, with libFuzzer if it is there.

    python -m tests.faults.fuzz_core --count 8000000

`.ci/sanitize` makes the programs and tells what else they may be driven by. Each target gets its share of the count
and of the time. A crash, a leak, an input of more than TIMEOUT seconds and a process of more than MEMORY MiB are
violations; the input is kept in the working directory.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.record import Figure, Record, Recorder, add_options

ROOT = Path(__file__).parents[2]
SHARES = {"splitter": 0.3, "rows": 0.01, "merge": 0.18, "statements": 0.14, "copy_text": 0.02, "placement": 0.35}
"""Of the inputs; one of `rows` is hundreds."""
TIMES = {"splitter": 0.35, "rows": 0.15, "merge": 0.13, "statements": 0.1, "copy_text": 0.02, "placement": 0.25}
"""Of the seconds."""
TIMEOUT = 20
MEMORY = 512
LONGEST = 4096  # bytes of an input
CHUNK = 20  # seconds at a time of a program without libFuzzer, which prints its count at its end
LOOK = 0.5  # seconds
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:quarantine_size_mb=16",  # more would look like growth
    "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
}

RUNS = re.compile(rb"^#(\d+)\s|^stat::number_of_executed_units:\s*(\d+)|^Done (\d+) runs|^(\d+) inputs", re.MULTILINE)
PEAK = re.compile(rb"rss: (\d+)Mb")


@dataclass
class Target:
    """A fuzz target's state."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    peak: int = 0
    violations: list[str] = field(default_factory=list)


class Fuzzing:
    """Runs the targets one after the other."""

    def __init__(self, programs: Path, count: int, seed: int, recorder: Recorder) -> None:
        self._programs = programs
        self._libfuzzer = (programs / "libfuzzer").exists()
        self._count = count
        self._seed = seed
        self._recorder = recorder
        self.targets = [Target(name) for name in SHARES]

    def run(self) -> Record:
        """Run all; what one leaves of its time goes to the next ones."""
        weight = sum(TIMES.values())
        for target in self.targets:
            wanted = int(SHARES[target.name] * self._count)
            end = time.monotonic() + self._recorder.left * TIMES[target.name] / weight
            weight -= TIMES[target.name]
            seed = self._seed
            while target.inputs < wanted and time.monotonic() < end - 1 and not self._recorder.over:
                self._one(target, wanted - target.inputs, end, seed)
                seed += 1
                if target.violations:
                    break
        return self.record()

    def _arguments(self, target: Target, wanted: int, seconds: int, seed: int) -> list[str]:
        if self._libfuzzer:
            limits = [f"-max_len={LONGEST}", f"-timeout={TIMEOUT}", f"-rss_limit_mb={MEMORY}"]
            return [f"-runs={wanted}", f"-max_total_time={seconds}", f"-seed={seed}", *limits, "-print_final_stats=1"]
        if target.name == "placement":
            return [str(min(wanted, 20_000 * CHUNK)), str(seed)]
        return [str(min(seconds, CHUNK)), str(seed)]

    def _one(self, target: Target, wanted: int, end: float, seed: int) -> None:
        """Run a program once, and watch its log."""
        begun = time.monotonic()
        before = target.inputs
        arguments = self._arguments(target, wanted, max(int(end - begun), 1), seed)
        log = self._programs / f"{target.name}.log"
        with log.open("wb") as written, log.open("rb") as read:
            process = subprocess.Popen(
                [self._programs / target.name, *arguments],
                cwd=self._programs,
                stdout=written,
                stderr=written,
                env={**os.environ, **SANITIZERS},
            )
            tail = b""
            try:
                while process.poll() is None:
                    if self._recorder.over or time.monotonic() > end + TIMEOUT:
                        process.terminate()
                        process.wait(TIMEOUT)
                    time.sleep(LOOK)
                    tail = self._look(target, before, tail + read.read())
                    self._recorder.keep(self.record())
            finally:
                process.kill()
                process.wait()
            self._look(target, before, tail + read.read())
        target.seconds += time.monotonic() - begun
        if process.returncode and not self._recorder.over:
            kept = [shutil.copy(path, Path.cwd()) for path in self._programs.glob("*-*") if path.is_file()]
            said = log.read_bytes()[-2000:].decode(errors="replace")
            target.violations.append(f"{target.name}, seed {seed}, status {process.returncode}, {kept}: {said}")

    @staticmethod
    def _look(target: Target, before: int, text: bytes) -> bytes:
        """Note what a log reports of inputs and memory; return its unread end."""
        whole, newline, rest = text.rpartition(b"\n")
        whole += newline
        for found in RUNS.finditer(whole):
            target.inputs = max(target.inputs, before + int(next(filter(None, found.groups()))))
        for megabytes in PEAK.findall(whole):
            target.peak = max(target.peak, int(megabytes))
        return rest

    def record(self) -> Record:
        """Return the figures so far."""
        driver = "libFuzzer" if self._libfuzzer else "a driver of our own, for there is no libFuzzer"
        lines = [f"{driver}, AddressSanitizer, UndefinedBehaviorSanitizer; no crash, no leak, no input of {TIMEOUT} s"]
        lines += [
            f"{one.name}: {one.inputs} inputs" + (f", at most {one.peak} MiB" if one.peak else "")
            for one in self.targets
        ]
        violations = [text for one in self.targets for text in one.violations]
        return Record([Figure("fuzz inputs", sum(one.inputs for one in self.targets))], lines, violations)


def run(count: int, seed: int, recorder: Recorder) -> Record:
    """Build and fuzz."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([ROOT / ".ci" / "sanitize", "build", directory], check=True)
        return Fuzzing(Path(directory), count, seed, recorder).run()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_core", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    add_options(parser, seconds=3600.0)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    return recorder.finish(run(arguments.count, arguments.seed, recorder))


if __name__ == "__main__":
    sys.exit(main())
