"""The documentation holds together: links lead somewhere, examples are valid, pictures are those of draw.py."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from shardproxy.config import parse

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md"])
DRAWINGS = ROOT / "docs" / "diagrams"


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        if not found.exists() or (anchor and anchor not in anchors(found.read_text())):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(path: Path) -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|c|h|def|md|toml))`", path.read_text()))
    missing = {name for name in named if not name.startswith("src/")}  # src/ is PostgreSQL's
    missing = {name for name in missing if not any((ROOT / base / name).exists() for base in ("", "shardproxy"))}
    assert not missing


def test_what_a_reader_is_led_through_exists() -> None:
    """Every function that docs/architecture.md names on the way of a Bind, a byte of COPY and an error."""
    text = (ROOT / "docs/architecture.md").read_text()
    table = text.partition("To follow one thing through the code:")[2].partition("\n\nThe transaction is")[0]
    native = "".join(path.read_text() for path in (ROOT / "shardproxy/native/core").rglob("*.[ch]"))
    modules = {path.stem: path.read_text() for path in (ROOT / "shardproxy").rglob("*.py*") if path.suffix != ".pyc"}
    named = re.findall(r"`([\w.]+)`", table)
    assert len(named) > 30
    missing = []
    for name in named:
        owner, _, function = name.rpartition(".")
        if name.startswith("sp_"):
            found = re.search(rf"\b{name}\b", native) is not None
        else:
            holds = [modules[owner]] if owner in modules else list(modules.values())
            if owner and owner not in modules:
                holds = [module for module in holds if re.search(rf"^class {owner}\b", module, re.MULTILINE)]
            found = any(re.search(rf"^ *(async )?def {function}\b", module, re.MULTILINE) for module in holds)
        if not found:
            missing.append(name)
    assert not missing


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "docs" / "getting-started.md"], ids=lambda path: path.name)
def test_configurations_that_are_shown_are_valid(path: Path) -> None:
    examples = re.findall(r"^```toml\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        assert parse(example).databases[0].tables


def test_the_pictures_are_those_of_their_program(tmp_path: Path) -> None:
    program = tmp_path / "draw.py"
    program.write_text((DRAWINGS / "draw.py").read_text())
    runpy.run_path(str(program), run_name="__main__")
    drawn = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name: path.read_text() for path in DRAWINGS.glob("*.svg")}


def test_every_make_target_is_described() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):.* ## ", text, re.MULTILINE))


def test_the_hooks_and_the_workflow_run_what_the_project_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = {requirement.partition("==")[0] for requirement in project["optional-dependencies"]["dev"]}
    hooks = re.findall(r"entry: \.venv/bin/(\w+) ", (ROOT / ".pre-commit-config.yaml").read_text())
    assert hooks
    assert set(hooks) <= tools
    assert "run: bash .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()
