"""What the reading of an input refuses."""

from typing import Self

from shardproxy.errors import PgError


class InputError(PgError):
    """An input cannot be read any further; the chunks given before it are whole rows.

    `file` is the name as given (for an entry of a zip file, `archive.zip!entry`). `line` is the physical line of the
    input, from 1, and `offset` the byte of it, from 0; each is None where it is not known. In a compressed input the
    offset of an error of the compression counts its compressed bytes.
    """

    def __init__(
        self,
        sqlstate: str,
        message: str,
        *,
        file: str,
        line: int | None = None,
        offset: int | None = None,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        context = file if line is None else f"{file}, line {line}"
        super().__init__(sqlstate, message, detail=detail, hint=hint, context=context)
        self.file = file
        self.line = line
        self.offset = offset

    @classmethod
    def from_os(cls, sqlstate: str, error: OSError, file: str) -> Self:
        """Wrap what the operating system said of a file."""
        return cls(sqlstate, f'could not read "{file}": {error.strerror or error}', file=file)
