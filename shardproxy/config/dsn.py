"""A shard's DSN: a postgresql:// URI or libpq's `key=value` form (manual, "Connection Strings").

Stricter than libpq, which takes defaults from the environment and the system's user: host, user and database are
required, there is only one host, and a parameter that would have no effect is an error, never ignored. Opens no
connection. Messages never quote the DSN, as it may contain a password.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import unquote_to_bytes

from pydantic import SecretStr

from shardproxy.config.environment import expand

DEFAULT_PORT = 5432

SSLMODES = ("disable", "allow", "prefer")
"""The modes that allow an unencrypted connection, the only kind made to shards."""

_FIELDS = ("host", "port", "user", "password", "dbname", "sslmode")
_TLS = re.compile(r"ssl\w+|channel_binding|gssencmode")

_URI = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<hosts>[^@/?#]*)(?:/(?P<dbname>[^?#]*))?(?:\?(?P<query>[^#]*))?"
)
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(?P<port>[^:]*))?")
_PAIR = re.compile(
    r"\s*(?P<name>\w+)\s*=\s*(?:'(?P<quoted>(?:[^'\\]|\\.)*)'(?=\s|$)|(?P<plain>(?:[^\s'\\]|\\.)*))",
    re.DOTALL,
)
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]+(?:%\w+)?")


@dataclass(frozen=True, slots=True)
class Dsn:
    """Where a shard is, and as which user to connect to it."""

    host: str
    port: int
    user: str
    database: str
    password: SecretStr | None = field(default=None, repr=False)
    sslmode: str = "prefer"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}/{self.database}"


class DsnError(ValueError):
    """An error in a DSN, and what to do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy or "Write postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE."


def parse_dsn(text: str, environment: Mapping[str, str]) -> Dsn:
    """Read a DSN; `${VAR}` may be all of it or in any part. Raises DsnError or UnresolvedError."""
    resolve: Resolve = partial(expand, environment=environment)
    if re.fullmatch(r"\$\{[^}]*\}", text):
        # A DSN from the environment is taken as it is: ${ has no meaning in it.
        text, resolve = expand(text, environment), _as_it_is
    fields: dict[str, str] = {}
    for name, value in (_from_uri if re.match(r"postgres(ql)?://", text) else _from_pairs)(text, resolve):
        if name in fields:
            raise DsnError(f"the DSN has `{name}` twice", "Remove one of them.")
        fields[name] = value
    return _check(fields)


class Resolve(Protocol):
    """Insert the values of variables into a part of a DSN, and decode the text between them."""

    def __call__(self, text: str, *, literal: Callable[[str], str] = str) -> str:
        """Return the value of a part of the DSN."""


def _as_it_is(text: str, *, literal: Callable[[str], str] = str) -> str:
    return literal(text)


def _decode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise DsnError("the DSN has a % that does not begin a percent-encoded byte", "Write %25 for a percent sign.")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise DsnError("the DSN has percent-encoded bytes that are not UTF-8") from None


def _from_uri(text: str, resolve: Resolve) -> Iterator[tuple[str, str]]:
    match = _URI.fullmatch(text)
    if match is None:
        raise DsnError(
            "the DSN is not a well-formed URI",
            "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in a user or password %40 stands for @, "
            "%3A for :, %2F for /, %3F for ?, %23 for #. A ${VAR} needs none of this.",
        )
    for name in ("user", "password", "dbname"):
        if match[name]:
            yield name, resolve(match[name], literal=_decode)
    if match["hosts"]:
        if "," in match["hosts"]:
            raise DsnError("the DSN names several hosts", "A shard is one server: name one host.")
        place = _HOST_PORT.fullmatch(match["hosts"])
        if place is None:
            raise DsnError(
                "the DSN's host and port cannot be separated",
                "Write an IPv6 address in brackets: [::1]:5432.",
            )
        if place["host"]:
            yield "host", resolve(place["host"].removeprefix("[").removesuffix("]"), literal=_decode)
        if place["port"]:
            yield "port", resolve(place["port"])
    for parameter in filter(None, (match["query"] or "").split("&")):
        name, equals, value = parameter.partition("=")
        if not equals:
            raise DsnError("the DSN has a parameter without a value")
        yield _decode(name), resolve(value, literal=_decode)


def _from_pairs(text: str, resolve: Resolve) -> Iterator[tuple[str, str]]:
    place = 0
    while text[place:].strip():
        match = _PAIR.match(text, place)
        if match is None or (not text[match.end() : match.end() + 1].isspace() and match.end() != len(text)):
            raise DsnError("the DSN is neither a postgresql:// URI nor a list of key=value")
        value = match["quoted"] if match["quoted"] is not None else match["plain"]
        yield match["name"], resolve(re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL))
        place = match.end()


def _check(fields: Mapping[str, str]) -> Dsn:
    for name in fields:
        if name not in _FIELDS:
            raise _refused(name)
    for name in ("host", "user", "dbname"):
        if not fields.get(name):
            raise DsnError(f"the DSN has no {'database' if name == 'dbname' else name}")
    if any("\0" in value for value in fields.values()):
        raise DsnError("the DSN has a NUL character")
    host = fields["host"]
    if host.startswith(("/", "@")):
        raise DsnError("the DSN names a Unix-domain socket", "Shards are reached over TCP: name a host.")
    if "," in host or "," in fields.get("port", ""):
        raise DsnError("the DSN names several hosts", "A shard is one server: name one host.")
    if not _HOST_NAME.fullmatch(host):
        raise DsnError("the DSN's host is neither a host name nor an IP address")
    port = fields.get("port") or str(DEFAULT_PORT)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise DsnError("the DSN's port is not a number from 1 to 65535")
    sslmode = fields.get("sslmode", "prefer")
    if sslmode not in SSLMODES:
        raise DsnError(
            f"sslmode={sslmode} is not supported: connections to shards are not encrypted"
            if sslmode in {"require", "verify-ca", "verify-full"}
            else "the DSN's sslmode is not one of PostgreSQL's",
            f"Use one of {', '.join(SSLMODES)}, or protect the connection to the shard by other means.",
        )
    password = fields.get("password")
    return Dsn(host, int(port), fields["user"], fields["dbname"], SecretStr(password) if password else None, sslmode)


def _refused(name: str) -> DsnError:
    if not re.fullmatch(r"\w{1,40}", name):
        return DsnError("the DSN has a parameter with an invalid name")
    if _TLS.fullmatch(name):
        return DsnError(f"the DSN's parameter `{name}` is not supported", "Connections to shards are not encrypted.")
    if name == "connect_timeout":
        return DsnError("`connect_timeout` does not belong in the DSN", "Set connect_timeout in [[databases]].")
    if name == "hostaddr":
        return DsnError("the DSN's parameter `hostaddr` is not supported", "Write the address as the host.")
    return DsnError(f"unknown parameter `{name}` in the DSN", f"Known: {', '.join(_FIELDS)}.")
