"""What is imported, started and documented is what the project's files say."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

from shardproxy.config import parse

PART_OF = {"pydantic-core": "pydantic"}  # released together, each pinning the other

ROOT = Path(__file__).resolve().parents[2]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """The distributions that `pip install .` brings, and those of these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *chain(*(project["optional-dependencies"][extra] for extra in extras))]
    names = [re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements]
    return {normal(name[0]) for name in names if name}


def imported() -> set[tuple[str, str, bool]]:
    """The foreign modules that the package imports, the files, and whether the file says what an ImportError means."""
    found: set[tuple[str, str, bool]] = set()
    for path in sorted((ROOT / "shardproxy").rglob("*.py")):
        tree = ast.parse(path.read_text())
        guarded = {
            id(node)
            for one in ast.walk(tree)
            if isinstance(one, ast.Try) and any("ImportError" in ast.dump(handler) for handler in one.handlers)
            for node in one.body
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                if top != "shardproxy" and top not in sys.stdlib_module_names:
                    found.add((top, str(path.relative_to(ROOT)), id(node) in guarded))
    return found


def test_every_import_is_a_declared_dependency() -> None:
    """One of an extra's packages is imported where a missing one is dealt with; it need not be installed here."""
    distributions = packages_distributions()
    always, guarded = declared(), declared("load", "parquet", "remote")
    missing = {
        f"{module} ({file})"
        for module, file, optional in imported()
        if not {PART_OF.get(normal(name), normal(name)) for name in distributions.get(module, [module])}
        & (guarded if optional else always)
    }
    assert not missing


def test_a_source_distribution_has_the_whole_core(tmp_path: Path) -> None:
    """What the build finds by pattern must be there to be found."""
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    native = ROOT / "shardproxy" / "native"
    needed = {
        path.relative_to(ROOT).as_posix()
        for path in native.rglob("*")
        if path.suffix in {".c", ".h", ".def", ".pyx", ".pxi"}
    }
    generated = {"shardproxy/native/_native.c"}
    assert names & needed == needed - generated
    assert "setup.py" in names


def test_no_file_of_the_package_is_over_400_lines() -> None:
    """A longer one holds two subjects: split it by them."""
    generated = ROOT / "shardproxy/native/_native.c"
    endings = {".py", ".pyi", ".pyx", ".pxi", ".c", ".h", ".def"}
    files = [path for path in (ROOT / "shardproxy").rglob("*") if path.suffix in endings and path != generated]
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in files}
    assert not {name: count for name, count in lines.items() if count > 400}


@pytest.mark.parametrize("ending", ["/shardproxy demo", "/pytest"])
def test_the_readme_has_each_command_once(ending: str) -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    (command,) = [line for line in lines if line.startswith("python3 -m venv ") and line.endswith(ending)]
    assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0


def test_the_map_of_the_tests_names_every_file() -> None:
    """tests/README.md: subject to file, and what helps."""
    tests = ROOT / "tests"
    words = set(re.findall(r"`([\w./]+)`", (tests / "README.md").read_text()))
    files = {path.stem for path in (tests / "integration").glob("test_*.py")}
    files |= {path.name for path in (tests / "support").glob("*.py")} - {"__init__.py"}
    assert not files - words
    assert not {
        word for word in words if word.startswith("test_") and not list(tests.rglob(f"{word.removesuffix('.py')}.py"))
    }


def test_the_compose_file_and_its_configuration_agree() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    path = ROOT / "config" / "compose.toml"
    assert f"/etc/shardproxy/{path.name}" in compose
    environment = {**os.environ, "SHARD_PASSWORD": "s3cret", "APP_PASSWORD": "s3cret"}
    config = parse(path.read_text(), environment=environment)
    assert f"127.0.0.1:{config.server.port}:{config.server.port}" in compose
    services = re.findall(r"^  (shard\d+):\n    <<: \*shard$", compose, re.MULTILINE)
    assert [shard.dsn.host for shard in config.databases[0].shards] == services
    for name in re.findall(r"\$\{(\w+)\}", path.read_text()):
        assert re.search(rf"^      {name}: \$\{{{name}:-", compose, re.MULTILINE)
