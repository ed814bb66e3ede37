"""The options of one COPY, as far as splitting rows and finding keys depends on them.

They are read from (name, value) pairs as the grammar gives them, old syntax included, and follow
ProcessCopyOptions in src/backend/commands/copy.c of PostgreSQL 18. The statement itself goes to the shards
untouched, and they judge it: where the pairs are not what PostgreSQL 18 takes (unknown, given twice, a bad
value, two that exclude each other), `opaque` is set and nothing is raised here. Whoever drives the COPY lets
the shards refuse an opaque one; if one of them takes it all the same, its rows cannot be split.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

OptionValue = None | str | int | bool | tuple[str, ...]
"""No argument, a string or keyword, an integer, a boolean, a list of names. A star is the list ('*',)."""

Direction = Literal["from", "to"]
Format = Literal["text", "csv", "binary"]
Header = Literal["none", "true", "match"]

NULL_MARKER: Final = {"text": "\\N", "csv": "", "binary": ""}
DELIMITER: Final = {"text": "\t", "csv": ",", "binary": ""}
STAR: Final = ("*",)
# COPY text reads these after a backslash, so PostgreSQL refuses them as its delimiter.
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
            option = OPTIONS.get(name)
            read = None if option is None else option.read(value)
            if read is None or name in given:
                opaque = True
            else:
                given[name] = read
        form: Format = given.get("format", "text")
        quote = '"' if form == "csv" else ""
        defaults = {"delimiter": DELIMITER[form], "null": NULL_MARKER[form], "quote": quote}
        defaults["escape"] = given.get("quote", quote)
        options = cls(direction, **(defaults | given))
        allowed = all(direction in OPTIONS[name].directions and form in OPTIONS[name].formats for name in given)
        return replace(options, opaque=opaque or not allowed or not _compatible(options))


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


class Option(NamedTuple):
    """One option: how its value is read (None for what PostgreSQL refuses), and where it may be given at all."""

    read: Callable[[OptionValue], Any]
    directions: frozenset[Direction] = frozenset({"from", "to"})
    formats: frozenset[Format] = frozenset({"text", "csv", "binary"})


_FROM: Final = frozenset[Direction]({"from"})
_TO: Final = frozenset[Direction]({"to"})
_CSV: Final = frozenset[Format]({"csv"})
_TEXTUAL: Final = frozenset[Format]({"text", "csv"})

OPTIONS: Final = {
    "format": Option(_one_of("text", "csv", "binary", fold=False)),
    "delimiter": Option(_string, formats=_TEXTUAL),
    "null": Option(_string, formats=_TEXTUAL),
    "default": Option(_string, _FROM, _TEXTUAL),
    "header": Option(_header),
    "quote": Option(_string, formats=_CSV),
    "escape": Option(_string, formats=_CSV),
    "force_null": Option(_columns, _FROM, _CSV),
    "force_not_null": Option(_columns, _FROM, _CSV),
    "force_quote": Option(_columns, _TO, _CSV),
    "encoding": Option(_string),
    "on_error": Option(_one_of("stop", "ignore", fold=True), _FROM),
    "reject_limit": Option(_limit),
    "log_verbosity": Option(_one_of("silent", "default", "verbose", fold=True)),
    "freeze": Option(_boolean),
}
"""The options by name, each a field of `CopyOptions`. What depends on their values is `_compatible`'s."""


def _compatible(options: CopyOptions) -> bool:
    """Tell whether PostgreSQL 18 takes the values of these options together."""
    binary = options.format == "binary"
    refused = (
        (binary and (options.header != "none" or options.on_error != "stop"))
        or (options.reject_limit is not None and options.on_error != "ignore")
        or (options.direction == "to" and (options.header == "match" or options.freeze))
    )
    return not (refused or (not binary and _markers_clash(options)))


def _markers_clash(options: CopyOptions) -> bool:
    """Tell whether PostgreSQL refuses the delimiter, the markers or the quotes."""
    csv = options.format == "csv"
    delimiter, quote = options.delimiter, options.quote
    markers = [options.null] if options.default is None else [options.null, options.default]
    one_byte = [delimiter, quote, options.escape] if csv else [delimiter]
    return (
        any(len(text.encode("utf-8", "surrogateescape")) != 1 for text in one_byte)
        or delimiter in _LINE_ENDS
        or (not csv and delimiter in _TEXT_DELIMITER_REFUSED)
        or any(delimiter in marker or _LINE_ENDS & set(marker) for marker in markers)
        or options.null == options.default
        or (csv and (quote == delimiter or any(quote in marker for marker in markers)))
    )
