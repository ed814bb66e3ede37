"""Read a configuration file: every error of it at once, each with its line and a remedy.

Reads the file and the environment's variables, and opens nothing else. A file that is not TOML has one error, as
nothing after it can be parsed.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shardproxy.config.model import ENVIRONMENT, Config
from shardproxy.config.positions import Positions
from shardproxy.config.problems import ConfigErrors, Path, Problem, did_you_mean, dotted
from shardproxy.config.rules import findings
from shardproxy.config.values import TomlFloat


def load(path: FilePath | str, environment: Mapping[str, str] | None = None) -> Config:
    """Read the file, or raise ConfigErrors. `environment` is os.environ unless a test gives another."""
    return parse(read(path), source=str(path), environment=environment)


def read(path: FilePath | str) -> str:
    """Return the file's text, or raise ConfigErrors."""
    source = str(path)
    try:
        data = FilePath(path).read_bytes()
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise ConfigErrors(source, [Problem(None, "", f"cannot be read: {reason}", "Name a readable file.")]) from None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigErrors(source, [Problem(line, "", "is not UTF-8", "Save the file as UTF-8.")]) from None


def parse(text: str, *, source: str = "configuration", environment: Mapping[str, str] | None = None) -> Config:
    """Read a configuration's text, or raise ConfigErrors."""
    try:
        document = tomllib.loads(text, parse_float=TomlFloat)
    except tomllib.TOMLDecodeError as error:
        raise ConfigErrors(source, [_syntax(text, str(error))]) from None
    variables = os.environ if environment is None else environment
    positions = Positions(text)
    problems: list[Problem] = []
    config: Config | None = None
    try:
        config = Config.model_validate(document, context={ENVIRONMENT: variables})
    except ValidationError as error:
        problems += [_problem(detail, document, positions) for detail in error.errors(include_url=False)]
    reported = {problem.path for problem in problems}
    for path, message, remedy in findings(document, variables):
        # What the models have reported needs no second error from the rules.
        if dotted(path) not in reported:
            problems.append(Problem(positions.line(path), dotted(path), message, remedy))
    if problems or config is None:
        raise ConfigErrors(source, problems)
    return config


def _syntax(text: str, message: str) -> Problem:
    if text.startswith("\ufeff"):
        return Problem(1, "", "is not TOML: it begins with a byte order mark", "Save the file as UTF-8 without one.")
    match = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    lines = text.split("\n")
    if match is None:
        # "(at end of document)"
        return Problem(
            len(lines), "", f"is not TOML: {message}", "Close the string, array or table that is still open."
        )
    line, column = int(match[1]), int(match[2])
    rest = lines[line - 1][column - 1 :] if line <= len(lines) else ""
    bare = re.match(r"(MINVALUE|MAXVALUE|NULL)\b", rest)
    remedy = f'Write "{bare[1]}", in quotes.' if bare else "See https://toml.io for the syntax; strings need quotes."
    return Problem(line, "", f"is not TOML: {message[: match.start()]} at column {column}", remedy)


def _problem(detail: ErrorDetails, document: object, positions: Positions) -> Problem:
    """Phrase a model's error; the input itself, which may be a secret, is not shown."""
    path: Path = detail["loc"]
    line = positions.line(path)
    if detail["type"] == "extra_forbidden":
        known = list(_members(_model_at(path[:-1])))
        return Problem(line, dotted(path), f"unknown key `{path[-1]}`", did_you_mean(str(path[-1]), known))
    description = _description(path)
    remedy = f"Expected: {description}." if description else ""
    if detail["type"] == "missing":
        return Problem(line, dotted(path), "is missing", remedy)
    if detail["type"] == "config":
        context = detail["ctx"]
        return Problem(line, dotted(path), context["text"], context["remedy"] or remedy)
    return Problem(line, dotted(path), _sentence(detail), remedy)


_SENTENCES = {
    "string_type": "is not a string",
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_type": "is not true or false",
    "tuple_type": "is not an array",
    "model_type": "is not a table",
}


def _sentence(detail: ErrorDetails) -> str:
    if detail["type"] in _SENTENCES:
        return _SENTENCES[detail["type"]]
    if detail["type"] == "literal_error":
        return f"is {detail['input']!r}, which is not one of the choices"
    return detail["msg"][:1].lower() + detail["msg"][1:].removeprefix("nput should be ")


def _description(path: Path) -> str:
    """Return the description of the nearest field around the path."""
    while path:
        if isinstance(path[-1], str):
            return _members(_model_at(path[:-1])).get(path[-1], "")
        path = path[:-1]
    return ""


def _members(model: type[BaseModel]) -> dict[str, str]:
    """Return the keys of a model's table, as in the file, with their descriptions."""
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


def _model_at(path: Path) -> type[BaseModel]:
    """Return the model of the table at this path of the file."""
    model: type[BaseModel] = Config
    for part in path:
        if isinstance(part, str):
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            model = next(_models(fields[part].annotation))
    return model


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in {Annotated, Union, UnionType, tuple}:
        for argument in get_args(annotation):
            if argument is not NoneType:
                yield from _models(argument)
