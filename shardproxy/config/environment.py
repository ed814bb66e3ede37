"""`${VAR}` in a password or DSN: secrets come from the environment, not from the file.

The value is inserted as it is, after the text around it has been parsed, so no character of a password needs an
escape. `$${` is `${` itself. Messages never quote a value.
"""

import re
from collections.abc import Callable, Mapping

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[^}]*)(?P<end>\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class UnresolvedError(ValueError):
    """A malformed reference, or one to a variable that is not set; `remedy` is what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def expand(text: str, environment: Mapping[str, str], literal: Callable[[str], str] = str) -> str:
    """Insert the values of the variables into the text, or raise UnresolvedError.

    `literal` decodes the text between the references.
    """
    parts: list[str] = []
    place = 0
    for match in _REFERENCE.finditer(text):
        parts += [literal(text[place : match.start()]), _value(match, environment)]
        place = match.end()
    return "".join([*parts, literal(text[place:])])


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    name = match["name"]
    if name is None:
        return "${"
    if not match["end"] or not _NAME.fullmatch(name):
        # What follows the brace may be part of a secret, so it is not quoted.
        raise UnresolvedError(
            "`${` is not followed by a variable's name and `}`", "Write ${NAME}; for the characters ${, write $${."
        )
    if name not in environment:
        raise UnresolvedError(
            f"the environment variable {name} is not set", f"Set {name} in the environment of shardproxy."
        )
    return environment[name]
