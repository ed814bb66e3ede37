"""The configuration as values: strict, frozen models, one per TOML table.

They validate what is in one place of the file; what depends on several places is in `rules`. Use `load`, which
applies both: a model that was built by hand has passed only half of the checks. Passwords are SecretStr, so no repr
shows them. A field's description tells what the value should be; error messages use it.
"""

import ipaddress
import re
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    Strict,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from shardproxy.config.dsn import Dsn, DsnError, parse_dsn
from shardproxy.config.environment import UnresolvedError, expand
from shardproxy.config.names import parse_identifier, parse_relation
from shardproxy.config.values import Edge, list_value, range_value
from shardproxy.wire.scram import Verifier

ENVIRONMENT = "environment"
"""The key of the environment's variables in the validation context."""


def wrong(message: str, remedy: str = "") -> PydanticCustomError:
    """Make the error of a field; without a remedy, the field's description is used."""
    # The text is passed in the context, since braces in a template are placeholders.
    return PydanticCustomError("config", "{text}", {"text": message, "remedy": remedy})


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class _Listen(NamedTuple):
    host: str
    port: int


def split_listen(text: str) -> _Listen:
    """Read `host:port`, an IPv6 address in brackets, or raise ValueError."""
    match = re.fullmatch(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+)):(?P<port>[0-9]{1,5})", text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{text!r} is not an address and a port")
    if match["six"]:
        return _Listen(str(ipaddress.IPv6Address(match["six"])), int(match["port"]))
    if re.fullmatch(r"[0-9.]+", match["host"]):
        ipaddress.IPv4Address(match["host"])
    return _Listen(match["host"], int(match["port"]))


def is_loopback(host: str) -> bool:
    """Whether the address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _listen(text: str) -> str:
    try:
        split_listen(text)
    except ValueError as error:
        raise wrong(str(error)) from None
    return text


def _name(text: str) -> str:
    if not text or not text.isprintable():
        raise wrong("is empty" if not text else "contains unprintable characters")
    return text


def _environment(info: ValidationInfo) -> dict[str, str]:
    assert info.context is not None
    environment: dict[str, str] = info.context[ENVIRONMENT]
    return environment


def _password(value: object, info: ValidationInfo) -> SecretStr:
    if not isinstance(value, str):
        raise wrong("is not a string")
    try:
        password = expand(value, _environment(info))
    except UnresolvedError as error:
        raise wrong(str(error), error.remedy) from None
    if not password or "\0" in password:
        raise wrong("is empty" if not password else "contains a NUL character")
    if password.startswith("SCRAM-SHA-256$"):
        try:
            Verifier.parse(password)
        except ValueError as error:
            raise wrong(str(error), "Copy the verifier from pg_authid.rolpassword unchanged.") from None
    if re.fullmatch(r"md5[0-9a-f]{32}", password):
        raise wrong("is an MD5 hash, which SCRAM cannot use", "Use a SCRAM-SHA-256 verifier or clear text.")
    return SecretStr(password)


def _dsn(value: object, info: ValidationInfo) -> Dsn:
    if not isinstance(value, str):
        raise wrong("is not a string")
    try:
        return parse_dsn(value, _environment(info))
    except (DsnError, UnresolvedError) as error:
        raise wrong(str(error), error.remedy) from None


def _relation_name(text: str) -> str:
    try:
        schema, _ = parse_relation(text)
    except ValueError as error:
        raise wrong(str(error)) from None
    if schema == "shardproxy":
        raise wrong("is in the proxy's own schema shardproxy", "Only user tables can be placed.")
    if schema.startswith("pg_") or schema == "information_schema":
        raise wrong(f"is in the system schema {schema}", "Only user tables can be placed.")
    return text


def _column(value: object) -> str:
    if not isinstance(value, str):
        raise wrong("is not a string")
    try:
        return parse_identifier(value)
    except ValueError as error:
        raise wrong(str(error)) from None


def _list_value(value: object) -> str | None:
    try:
        return list_value(value)
    except ValueError as error:
        raise wrong(str(error)) from None


def _range_value(value: object) -> str | Edge:
    try:
        return range_value(value)
    except ValueError as error:
        raise wrong(str(error)) from None


def _not_empty(value: object) -> object:
    if value == []:
        raise wrong("is empty")
    return value


Name = Annotated[str, AfterValidator(_name)]
Listen = Annotated[str, AfterValidator(_listen)]
# TOML arrays arrive as lists, which a strict tuple refuses; their elements stay strict.
Array = Strict(False)
# Before the elements are validated, as otherwise an array of only errors would count as empty.
NonEmpty = BeforeValidator(_not_empty)
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Listener(_Model):
    listen: Listen

    @property
    def host(self) -> str:
        """The address to listen on, without brackets."""
        return split_listen(self.listen).host

    @property
    def port(self) -> int:
        """The port to listen on; 0 leaves the choice to the kernel."""
        return split_listen(self.listen).port


class Server(_Listener):
    """Where clients connect."""

    listen: Annotated[
        Listen,
        Field(description='HOST:PORT, such as "127.0.0.1:6432" or "[::1]:6432"; port 0 takes a free one'),
    ] = "127.0.0.1:6432"
    workers: Annotated[
        int, Field(ge=0, description="the number of processes that share the port; 0 for one per core")
    ] = 1
    max_clients: Annotated[int, Field(ge=1, description="the number of concurrent clients per process")] = 10000
    login_timeout: Annotated[Seconds, Field(description="seconds within which a client must have logged in")] = 60.0
    drain_timeout: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="seconds that open transactions may take to end after SIGTERM"),
    ] = 30.0


class Admin(_Listener):
    """Where metrics, health and the dashboard are served."""

    listen: Annotated[Listen, Field(description='HOST:PORT, such as "127.0.0.1:9432"')]


class User(_Model):
    """Who may log in."""

    name: Annotated[Name, Field(description="the name that the client gives")]
    password: Annotated[
        SecretStr,
        BeforeValidator(_password),
        Field(description="clear text, a SCRAM-SHA-256 verifier, or ${VARIABLE}"),
    ]
    databases: Annotated[
        tuple[Name, ...],
        NonEmpty,
        Array,
        Field(description="the names of the [[databases]] that the user may use"),
    ]


class Shard(_Model):
    """One PostgreSQL server's database."""

    name: Annotated[Name, Field(description="a name for messages and for tables to refer to")]
    dsn: Annotated[
        Dsn,
        BeforeValidator(_dsn),
        Field(description="postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE; it may contain ${VARIABLE}"),
    ]


class ListValues(_Model):
    """The key values of one shard."""

    shard: Annotated[Name, Field(description="the name of one of the database's shards")]
    values: Annotated[
        tuple[Annotated[str | None, BeforeValidator(_list_value)], ...],
        NonEmpty,
        Array,
        Field(
            alias="in",
            description='an array of key values, such as ["de", "fr"]; "NULL" is NULL',
        ),
    ]


class RangeBounds(_Model):
    """One range of keys: `lower` is part of it, `upper` is not."""

    shard: Annotated[Name, Field(description="the name of one of the database's shards")]
    lower: Annotated[
        tuple[Annotated[str | Edge, BeforeValidator(_range_value)], ...],
        NonEmpty,
        Array,
        Field(
            alias="from",
            description='an array with a value, or "MINVALUE", for each key column',
        ),
    ]
    upper: Annotated[
        tuple[Annotated[str | Edge, BeforeValidator(_range_value)], ...],
        NonEmpty,
        Array,
        Field(alias="to", description='an array with a value, or "MAXVALUE", for each key column'),
    ]


class Table(_Model):
    """How the rows of a table are placed."""

    name: Annotated[
        str,
        AfterValidator(_relation_name),
        Field(description="RELATION or SCHEMA.RELATION, quoted where SQL needs quotes"),
    ]
    placement: Annotated[
        Literal["hash", "list", "range", "reference", "single"],
        Field(description='"hash", "list", "range", "reference" or "single"'),
    ]
    key: Annotated[
        tuple[Annotated[str, BeforeValidator(_column)], ...],
        Array,
        Field(description='an array of column names, such as ["id"]'),
    ] = ()
    shard: Annotated[Name | None, Field(description="the name of the shard that has a `single` table")] = None
    values: Annotated[
        tuple[ListValues, ...], Array, Field(description='an array of { shard = "s0", in = ["de", "fr"] }')
    ] = ()
    bounds: Annotated[
        tuple[RangeBounds, ...],
        Array,
        Field(description='an array of { shard = "s0", from = ["MINVALUE"], to = [100] }'),
    ] = ()
    default: Annotated[Name | None, Field(description="the name of the shard for all other keys")] = None

    @property
    def schema(self) -> str:  # type: ignore[override]  # pydantic's own `schema` is deprecated and unused here
        """The schema's name, folded and unquoted."""
        return parse_relation(self.name)[0]

    @property
    def relation(self) -> str:
        """The relation's name, folded and unquoted."""
        return parse_relation(self.name)[1]


def _limit(text: str) -> str:
    if text and not re.fullmatch(r"[0-9]+|(100|[0-9]{1,2})(\.[0-9]+)?\s*%", text):
        raise wrong("is neither a number of rows nor a percentage")
    return text


LONGEST_ROW: Final = 0x3FFFFFFE
"""Bytes of the longest row that a server takes (MaxAllocSize - 1 of utils/memutils.h)."""


class Load(_Model):
    """What COPY FROM STDIN does with bad rows."""

    on_error: Annotated[
        Literal["stop", "resume_next"], Field(description='"stop", or "resume_next" to set bad rows aside')
    ] = "stop"
    reject_dir: Annotated[
        str | None, Field(min_length=1, description="a directory of the proxy's machine for rows that are set aside")
    ] = None
    reject_limit: Annotated[
        str, AfterValidator(_limit), Field(description='rows that may be set aside, such as "1000" or "5%"; "" for any')
    ] = ""
    reject_table: Annotated[
        str | None,
        AfterValidator(_relation_name),
        Field(description="RELATION or SCHEMA.RELATION, a table of the shards for rows that are set aside"),
    ] = None
    batch_rows: Annotated[int, Field(ge=1, description="the rows of a batch, which grows while nothing is wrong")] = (
        25000
    )
    batch_size: Annotated[int, Field(ge=1, description="bytes of the largest batch of a shard")] = 16 * 2**20
    max_row_bytes: Annotated[int, Field(ge=1, le=LONGEST_ROW, description="bytes of the longest row")] = LONGEST_ROW


class Database(_Model):
    """A database as clients see it."""

    name: Annotated[Name, Field(description="what clients connect to")]
    commit: Annotated[Literal["two-phase", "one-phase"], Field(description='"two-phase" or "one-phase"')] = "two-phase"
    unlisted_tables: Annotated[Name, Field(description='"error", "reference", or the name of a shard')] = "error"
    connect_timeout: Annotated[Seconds, Field(description="seconds to connect to a shard")] = 10.0
    stall_timeout: Annotated[
        Seconds, Field(description="seconds without an answer after which a shard must prove that it is alive")
    ] = 30.0
    deadlock_timeout: Annotated[
        Seconds,
        Field(description="seconds that a transaction of several shards may wait for a lock before it is cancelled"),
    ] = 60.0
    max_statement_size: Annotated[
        int, Field(ge=1, description="bytes of the longest text of statements; a longer one is refused with 54000")
    ] = 16 * 2**20
    prepare_timeout: Annotated[
        Seconds, Field(description="seconds within which all shards must have prepared a transaction")
    ] = 30.0
    commit_timeout: Annotated[
        Seconds, Field(description="seconds to carry out the decision before recovery takes over")
    ] = 30.0
    shards: Annotated[
        tuple[Shard, ...],
        NonEmpty,
        Array,
        Field(
            description='an array of { name = "s0", dsn = "postgresql://..." }, in the order of hash remainders',
        ),
    ]
    load: Annotated[Load, Field(description="a [databases.load] table")] = Load()
    tables: Annotated[tuple[Table, ...], Array, Field(description="a [[databases.tables]] for each table")] = ()

    def shard_number(self, name: str) -> int:
        """Return the index of the shard of this name."""
        return next(number for number, shard in enumerate(self.shards) if shard.name == name)


class Config(_Model):
    """The whole file."""

    server: Annotated[Server, Field(description="a [server] table")] = Server()
    admin: Annotated[Admin | None, Field(description="an [admin] table")] = None
    users: Annotated[tuple[User, ...], Array, Field(description="a [[users]] for each user")] = ()
    databases: Annotated[
        tuple[Database, ...],
        NonEmpty,
        Array,
        Field(description="a [[databases]] for each database that clients see"),
    ]
