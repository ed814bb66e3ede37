"""Files of an HTTP server: read whole, with ranges and without, or told why not."""

import http.server
import re
import threading
from collections.abc import Iterator

import pytest

from shardproxy.loader.input import InputError, Reading
from shardproxy.loader.input.open import pieces, sources
from tests.unit.loader.conftest import options, read_files

DATA = b"".join(b"%d,row\n" % number for number in range(20_000))


class Server(http.server.BaseHTTPRequestHandler):
    """The first part of a path says how it is answered."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        kind = self.path.split("/")[1]
        if kind.isdigit():
            self.send_error(int(kind))
            return
        data, asked = DATA, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if kind != "whole" and asked is not None:
            data = DATA[int(asked[1]) : int(asked[2]) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {asked[1]}-{int(asked[1]) + len(data) - 1}/{len(DATA)}")
        else:
            self.send_response(200)
        if kind != "whole":
            self.send_header("Accept-Ranges", "bytes")
        if kind != "endless":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[: len(data) // 2] if kind == "cut" else data)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The server's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["ranges", "whole", "endless"])
def test_the_whole_file(url: str, kind: str) -> None:
    made = read_files([f"{url}/{kind}/a.csv"], Reading(options()))
    assert made.data == DATA
    assert [file.name for file, _ in made.files] == [f"{url}/{kind}/a.csv"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("404/a", "404 Not Found"),
        ("403/a", "403 Forbidden"),
        ("500/a", "500 Internal Server Error"),
        ("cut/a", "ClientPayloadError: Response payload is not completed"),
    ],
)
def test_what_cannot_be_read_is_told(url: str, path: str, words: str) -> None:
    """A status, and a body that ends before its length: no row of it would be committed."""
    [source] = sources([f"{url}/{path}"])
    with pytest.raises(InputError) as caught:
        b"".join(pieces(source.open(), source.name))
    assert caught.value.sqlstate == "58030"
    assert caught.value.message.startswith(f'could not read "{url}/{path}": {words}')


def test_a_server_that_is_not_there() -> None:
    [source] = sources(["http://127.0.0.1:1/a"])
    with pytest.raises(InputError, match="Cannot connect to host"):
        source.open()
