"""The layer rule, executable: an import goes down only, and some imports belong to some layers alone.

docs/architecture.md has the picture. Each violation names its line, and why the rule exists.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shardproxy

PACKAGE = "shardproxy"
ROOT = Path(shardproxy.__file__).parent

LEVELS = {
    "errors": -1,
    "sqlstate": -1,
    "wire": 0,
    "native": 0,
    "copy": 0,
    "rows": 0,
    "sql": 1,
    "routing": 1,
    "config": 1,
    "combine": 1,
    "net": 2,
    "shard": 3,
    "transaction": 4,
    "rejects": 4,
    "loader": 6,
    "session": 5,
    "server": 6,
    "embedded": 7,
    "demo": 7,
    "cli": 8,
    "__main__": 9,
}
"""First part of a module's path below the package, to its height. A part that is missing here is an error."""

SIBLINGS = {
    # Within one height: importer -> what it may import beside itself.
    "errors": {"sqlstate"},
    "copy": {"native"},
    "rows": {"copy"},
    "routing": {"sql"},
    "demo": {"embedded"},
}

EXPORTED = {"loader", "rows"}
"""What the package's own __init__ gives out on demand, and so may import under TYPE_CHECKING."""

SANS_IO = {"errors", "sqlstate", "wire", "native", "copy", "rows", "sql", "routing", "combine"}
SANS_IO_MODULES = {
    "shardproxy.shard.address",
    "shardproxy.shard.errors",
    "shardproxy.transaction.gid",
    "shardproxy.transaction.participant",
    "shardproxy.transaction.savepoints",
    "shardproxy.transaction.settings",
    "shardproxy.transaction.state",
    "shardproxy.transaction.waits",
}
"""Modules without I/O in a layer that has some: they may import no module of such a layer but these."""

IO_MODULES = {
    "asyncio",
    "asyncpg",
    "http",
    "multiprocessing",
    "requests",
    "select",
    "selectors",
    "signal",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "threading",
    "urllib",
    "uvloop",
}


def part_of(module: str) -> str:
    """The layer of a dotted module name: `shardproxy.wire.scram` is in `wire`, the package itself in none."""
    names = module.split(".")
    return names[1] if len(names) > 1 else ""


def imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Every import anywhere in the tree, inside functions and TYPE_CHECKING too, as (line, dotted name)."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                names = package.split(".")
                above = names[: len(names) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            # `from shardproxy import wire` imports the layer, not just the package.
            for alias in node.names if base == PACKAGE else ():
                yield node.lineno, f"{PACKAGE}.{alias.name}"
            if base != PACKAGE:
                yield node.lineno, base


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What a module imports against the rules, each with its line and the rule's reason."""
    importer = part_of(module)
    found: list[str] = []
    if importer and importer not in LEVELS:
        return [f"{module}: {importer!r} has no place in LEVELS: decide on which layer it stands"]
    for line, name in imports(ast.parse(source), module, is_package=is_package):
        top = name.partition(".")[0]
        where = f"{module}:{line} imports {name}: "
        if top == PACKAGE:
            imported = part_of(name)
            if not imported or (imported.startswith("__") and imported != "__main__"):
                continue  # The package itself, or its __version__.
            if imported not in LEVELS:
                found.append(where + "that name has no place in LEVELS")
            elif not importer and imported in EXPORTED:
                continue  # test_nothing_is_imported_before_it_is_asked_for holds it to TYPE_CHECKING.
            elif not importer:
                found.append(where + "the package's own __init__ imports no layer, or every import is circular")
            elif imported != importer and not (
                LEVELS[imported] < LEVELS[importer] or imported in SIBLINGS.get(importer, set())
            ):
                found.append(
                    where + f"an import goes down only ({importer} is on {LEVELS[importer]}, {imported} on "
                    f"{LEVELS[imported]}), so that each layer can be understood and tested without those above"
                )
            elif module in SANS_IO_MODULES and imported not in SANS_IO | {"config"} and name not in SANS_IO_MODULES:
                found.append(where + f"{module} does no I/O, and {name} may")
        elif top in IO_MODULES and (importer in SANS_IO or module in SANS_IO_MODULES):
            what = importer if importer in SANS_IO else module
            found.append(where + f"{what} does no I/O, so that every cut, error and timing can be tested by calling it")
        elif top == "pglast" and importer != "sql":
            found.append(where + "only sql/ knows pglast, so that the grammar's shape stays behind one door")
    return found


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py*")):
        if path.suffix in {".py", ".pyi"}:
            names = path.relative_to(ROOT.parent).with_suffix("").parts
            yield ".".join(names[:-1] if names[-1] == "__init__" else names), path


def test_imports_go_down_only() -> None:
    found = [
        violation
        for module, path in modules()
        for violation in violations(module, path.read_text("utf-8"), is_package=path.stem == "__init__")
    ]
    assert not found, "\n".join(found)


def test_the_whole_package_is_looked_at() -> None:
    seen = {part_of(module) for module, _ in modules()}
    assert {"errors", "sqlstate", "wire", "native", "copy", "rows", "sql", "routing", "combine", "net", "shard"} <= seen


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, shardproxy; before = [name for name in sys.modules if name.startswith('shardproxy.')]; "
        "shardproxy.RowsIO, shardproxy.RowsTextIO, shardproxy.AsyncRows; "
        "print(before, 'shardproxy.rows' in sys.modules, 'asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True False\n"


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("shardproxy.wire.x", "import asyncio", "does no I/O"),
        ("shardproxy.wire.x", "import asyncio.streams as s", "does no I/O"),
        ("shardproxy.copy.x", "from socket import socket", "does no I/O"),
        ("shardproxy.routing.x", "def f():\n    import ssl", "does no I/O"),
        ("shardproxy.errors", "import uvloop", "does no I/O"),
        ("shardproxy.wire.x", "from shardproxy.sql import analyze", "goes down only"),
        ("shardproxy.wire.x", "from shardproxy import sql", "goes down only"),
        ("shardproxy.wire.x", "import shardproxy.sql.parse", "goes down only"),
        ("shardproxy.wire.x", "from ..sql import parse", "goes down only"),
        ("shardproxy.wire.x", "from .. import sql", "goes down only"),
        ("shardproxy.wire.x", "from shardproxy.native import Placement", "goes down only"),
        ("shardproxy.transaction.x", "if TYPE_CHECKING:\n    from shardproxy.session import y", "goes down only"),
        ("shardproxy.session.x", "from shardproxy.server import y", "goes down only"),
        ("shardproxy.errors", "from shardproxy.wire import errors", "goes down only"),
        ("shardproxy.shard.x", "import pglast", "only sql/"),
        ("shardproxy.cli", "from pglast.parser import parse_sql", "only sql/"),
        ("shardproxy.routing.x", "import pglast", "only sql/"),
        ("shardproxy.sql.x", "from shardproxy.routing import route", "goes down only"),
        ("shardproxy.misc.x", "", "decide on which layer"),
        ("shardproxy.cli", "from shardproxy import misc", "no place in LEVELS"),
        ("shardproxy", "from shardproxy.wire import encode", "circular"),
        ("shardproxy.transaction.state", "if TYPE_CHECKING:\n    import asyncpg", "does no I/O"),
        ("shardproxy.transaction.state", "from shardproxy.shard.control import control", "does no I/O"),
    ],
)
def test_a_violation_is_caught(module: str, source: str, reason: str) -> None:
    found = violations(module, source, is_package=module == PACKAGE)
    assert len(found) == 1
    assert reason in found[0]


def test_a_package_s_relative_import_is_resolved_from_the_package() -> None:
    assert violations("shardproxy.wire", "from ..sql import parse", is_package=True)
    assert not violations("shardproxy.wire", "from .encode import query", is_package=True)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("shardproxy.wire.x", "from shardproxy.errors import PgError\nimport struct\nfrom . import encode"),
        ("shardproxy.wire.x", "from shardproxy import sqlstate"),
        ("shardproxy.sql.x", "import pglast\nfrom shardproxy.copy.options import CopyOptions"),
        ("shardproxy.routing.x", "from shardproxy.sql import analyze"),
        ("shardproxy", "if TYPE_CHECKING:\n    from shardproxy.rows import RowsIO"),
        ("shardproxy.shard.x", "import asyncio, shardproxy\nfrom shardproxy.wire import encode"),
        ("shardproxy.session.x", "from shardproxy.transaction import state\nfrom shardproxy.config import load"),
        ("shardproxy.cli", "from shardproxy import __version__\nfrom shardproxy.server import serve"),
        ("shardproxy.transaction.state", "from shardproxy.shard.errors import lost\nfrom shardproxy.sql import Const"),
        ("shardproxy.transaction.two_phase", "import asyncio\nfrom shardproxy.shard.control import control"),
    ],
)
def test_what_goes_down_is_allowed(module: str, source: str) -> None:
    assert not violations(module, source)


def inner_imports(source: str, module: str, names: set[str], *, is_package: bool) -> set[str]:
    """The modules of its own package that a module imports; a name that is no module belongs to the package itself."""
    package = ".".join(module.split(".")[:2])
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            [(_, base), *_] = imports(ast.Module([node], []), module, is_package=is_package)
            found |= {name if (name := f"{base}.{alias.name}") in names else base for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name == package or name.startswith(package + ".")} - {module}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of a graph, its first node repeated at the end; empty if it has none."""
    done: set[str] = set()

    def search(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for other in sorted(graph.get(node, ())):
                if found := search(other, [*path, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := search(node, []))), [])


CIRCULAR: set[str] = set()
"""Packages that still have a circle."""


def test_no_circle_inside_a_package() -> None:
    """Modules that import each other, if only for their types, cannot be understood or tested one by one."""
    sources = {module: path for module, path in modules() if path.suffix == ".py"}
    names = set(sources)
    graph = {
        module: inner_imports(path.read_text("utf-8"), module, names, is_package=path.stem == "__init__")
        for module, path in sources.items()
        if part_of(module) not in CIRCULAR and part_of(module)
    }
    assert not (found := circle(graph)), " imports ".join(found)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from shardproxy.sql import parse, Node", {"shardproxy.sql.parse", "shardproxy.sql"}),
        ("from . import parse", {"shardproxy.sql.parse"}),
        ("from .parse import Node\nimport shardproxy.copy.options", {"shardproxy.sql.parse"}),
        ("if TYPE_CHECKING:\n    from shardproxy.sql.walk import walk", {"shardproxy.sql.walk"}),
    ],
)
def test_imports_inside_a_package_are_seen(source: str, found: set[str]) -> None:
    names = {"shardproxy.sql", "shardproxy.sql.parse", "shardproxy.sql.walk"}
    assert inner_imports(source, "shardproxy.sql.x", names, is_package=False) == found


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})
