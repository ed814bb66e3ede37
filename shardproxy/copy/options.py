"""The options of one COPY, as far as splitting rows and finding keys depends on them.

They are read from (name, value) pairs as the grammar gives them, old syntax included, and follow
ProcessCopyOptions in src/backend/commands/copy.c of PostgreSQL 18. The statement itself goes to the shards
untouched, and they judge it: where the pairs are not what PostgreSQL 18 takes (unknown, given twice, a bad
value, two that exclude each other), `opaque` is set and nothing is raised here. Whoever drives the COPY lets
the shards refuse an opaque one; if one of them takes it all the same, its rows cannot be split.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

OptionValue = None | str | int | bool | tuple[str, ...]
"""No argument, a string or keyword, an integer, a boolean, a list of names. A star is the list ('*',)."""

Direction = Literal["from", "to"]
Format = Literal["text", "csv", "binary"]
Header = Literal["none", "true", "match"]

NULL_MARKER: Final = {"text": "\\N", "csv": "", "binary": ""}
DELIMITER: Final = {"text": "\t", "csv": ",", "binary": ""}
STAR: Final = ("*",)
# COPY text reads these behind a backslash, so PostgreSQL refuses them as its delimiter.
_TEXT_DELIMITER_REFUSED: Final = frozenset("\\.abcdefghijklmnopqrstuvwxyz0123456789")
_LINE_ENDS: Final = frozenset("\r\n")


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """A COPY's options with the defaults of its format filled in.

    `quote` and `escape` are empty outside CSV, `delimiter` and `null` in binary. `force_null`,
    `force_not_null` and `force_quote` are column names, or `STAR` for all. `encoding` has the client's
    spelling.
    """

    direction: Direction
    format: Format = "text"
    delimiter: str = "\t"
    null: str = "\\N"
    default: str | None = None
    header: Header = "none"
    quote: str = ""
    escape: str = ""
    force_null: tuple[str, ...] = ()
    force_not_null: tuple[str, ...] = ()
    force_quote: tuple[str, ...] = ()
    encoding: str | None = None
    on_error: str = "stop"
    reject_limit: int | None = None
    log_verbosity: str = "default"
    freeze: bool = False
    opaque: bool = False

    @classmethod
    def read(cls, direction: Direction, pairs: Iterable[tuple[str, OptionValue]]) -> "CopyOptions":
        """Interpret the options in the order in which they were written."""
        given: dict[str, Any] = {}
        opaque = False
        for name, value in pairs:
            reader = _READERS.get(name)
            read = None if reader is None else reader(value)
            if read is None or name in given:
                opaque = True
            else:
                given[name] = read
        form: Format = given.get("format", "text")
        csv = form == "csv"
        quote = given.get("quote", '"' if csv else "")
        options = cls(
            direction,
            form,
            delimiter=given.get("delimiter", DELIMITER[form]),
            null=given.get("null", NULL_MARKER[form]),
            default=given.get("default"),
            header=given.get("header", "none"),
            quote=quote,
            escape=given.get("escape", quote),
            force_null=given.get("force_null", ()),
            force_not_null=given.get("force_not_null", ()),
            force_quote=given.get("force_quote", ()),
            encoding=given.get("encoding"),
            on_error=given.get("on_error", "stop"),
            reject_limit=given.get("reject_limit"),
            log_verbosity=given.get("log_verbosity", "default"),
            freeze=given.get("freeze", False),
        )
        return replace(options, opaque=opaque or not _compatible(options, frozenset(given)))


def _string(value: OptionValue) -> str | None:
    """Read as defGetString does; None for what it refuses."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return ".".join(value) if isinstance(value, tuple) else value


def _boolean(value: OptionValue) -> bool | None:
    """Read as defGetBoolean does."""
    if value is None:
        return True
    return {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}.get(
        (_string(value) or "").lower()
    )


def _header(value: OptionValue) -> Header | None:
    """Read as defGetCopyHeaderChoice does."""
    if isinstance(value, str) and value.lower() == "match":
        return "match"
    flag = _boolean(value)
    if flag is None:
        return None
    return "true" if flag else "none"


def _columns(value: OptionValue) -> tuple[str, ...] | None:
    return value if isinstance(value, tuple) else None


def _one_of(*words: str, fold: bool) -> Any:
    """Build the reader of a keyword option; `fold` where PostgreSQL compares without regard to case."""

    def read(value: OptionValue) -> str | None:
        text = _string(value)
        if text is not None and fold:
            text = text.lower()
        return text if text in words else None

    return read


def _limit(value: OptionValue) -> int | None:
    """Read as defGetCopyRejectLimitOption does: a positive int8, which the lexer may give as a string."""
    text = _string(value)
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if 0 < number < 2**63 else None


_READERS: Final[dict[str, Any]] = {
    "format": _one_of("text", "csv", "binary", fold=False),
    "delimiter": _string,
    "null": _string,
    "default": _string,
    "header": _header,
    "quote": _string,
    "escape": _string,
    "force_null": _columns,
    "force_not_null": _columns,
    "force_quote": _columns,
    "encoding": _string,
    "on_error": _one_of("stop", "ignore", fold=True),
    "reject_limit": _limit,
    "log_verbosity": _one_of("silent", "default", "verbose", fold=True),
    "freeze": _boolean,
}


def _compatible(options: CopyOptions, given: frozenset[str]) -> bool:
    """Tell whether PostgreSQL 18 takes these options together."""
    csv, binary = options.format == "csv", options.format == "binary"
    markers = [options.null] if options.default is None else [options.null, options.default]
    refused = (
        (binary and given & {"delimiter", "null", "default"})
        or (binary and options.header != "none")
        or (binary and options.on_error != "stop")
        or (not csv and given & {"quote", "escape", "force_null", "force_not_null", "force_quote"})
        or (options.reject_limit is not None and options.on_error != "ignore")
    )
    if options.direction == "to":
        refused = (
            refused
            or options.header == "match"
            or options.freeze
            or given & {"default", "force_null", "force_not_null", "on_error"}
        )
    else:
        refused = refused or "force_quote" in given
    if not binary:
        delimiter = options.delimiter
        refused = (
            refused
            or len(delimiter.encode("utf-8", "surrogateescape")) != 1
            or delimiter in _LINE_ENDS
            or (not csv and delimiter in _TEXT_DELIMITER_REFUSED)
            or any(delimiter in marker or _LINE_ENDS & set(marker) for marker in markers)
            or options.null == options.default
        )
    if csv:
        refused = (
            refused
            or len(options.quote.encode("utf-8", "surrogateescape")) != 1
            or len(options.escape.encode("utf-8", "surrogateescape")) != 1
            or options.quote == options.delimiter
            or any(options.quote in marker for marker in markers)
        )
    return not refused
