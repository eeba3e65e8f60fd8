"""What comes from the network: other people's pages, headers, bodies, clients that mean harm or are slow."""

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from conftest import StartServer
from heartmula_server import LONG, SHORT, Api, Server, Song, until

MEGABYTE = 1 << 20


def connect(server: Server, timeout: float = 20.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=timeout)


def ask(server: Server, request: bytes, timeout: float = 20.0) -> bytes:
    """Sends these very bytes; everything that comes back until the server ends the connection."""
    with connect(server, timeout) as connection:
        with suppress(OSError):  # it had enough, and says why
            connection.sendall(request)
        answer = b""
        try:
            while piece := connection.recv(MEGABYTE):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def status(answer: bytes) -> int:
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0


def test_other_names_of_this_machine_are_not_answered(server: Server) -> None:
    """A page whose name was made to point here (DNS rebinding) gets nothing."""
    for host, expected in {
        "localhost": 200,
        f"localhost:{server.port}": 200,
        "LOCALHOST": 200,
        "127.0.0.1": 200,
        "[::1]:80": 200,
        "studio.localhost": 200,
        "evil.example": 403,
        "127.evil.example": 403,
        "127.0.0.1.evil.example": 403,
        "127.0.0.1@evil.example": 403,
        "localhost.evil.example": 403,
        "evil.example:127.0.0.1": 403,
        "0.0.0.0": 403,
        "": 403,
    }.items():
        answer = ask(server, f"GET /v1/limits HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert status(answer) == expected, host
    assert status(ask(server, b"GET /v1/limits HTTP/1.0\r\n\r\n")) in (400, 403)


def test_other_peoples_pages_may_not_call(server: Server, song_in_work: Song) -> None:
    """Not even such calls as a browser makes without asking first."""
    song = song_in_work["id"]
    for origin in ("http://evil.example", "https://127.0.0.1", "null", f"http://localhost:{server.port + 1}", "x"):
        for method, path in (
            ("POST", "/v1/songs"),
            ("POST", f"/v1/songs/{song}/cancel"),
            ("DELETE", f"/v1/songs/{song}"),
            ("POST", "/v1/session"),
            ("POST", f"/songs/{song}/like"),
            ("GET", "/v1/songs"),
            ("GET", "/v1/events"),
            ("OPTIONS", "/v1/songs"),
        ):
            answer = server.api.http.request(method, path, headers={"Origin": origin}, json=SHORT)
            assert answer.status_code == 403, (origin, method, path)
            assert not [name for name in answer.headers if name.startswith("access-control")]
    assert server.api.song(song)["state"] == "running"
    own = server.api.http.post("/v1/songs", json=SHORT, headers={"Origin": server.url})
    assert own.status_code == 202


def test_a_page_that_is_named_may_call(start_server: StartServer) -> None:
    page = "https://music.example"
    api = start_server("--cors_origin", page).api
    preflight = {"Origin": page, "Access-Control-Request-Method": "PATCH"}
    answer = api.http.options("/v1/songs", headers=preflight)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == page
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert (
        api.http.post("/v1/songs", json=SHORT, headers={"Origin": page}).headers["access-control-allow-origin"] == page
    )
    for origin in ("https://evil.example", f"{page}.evil.example", "http://music.example", f"{page}:444"):
        answer = api.http.post("/v1/songs", json=SHORT, headers={"Origin": origin})
        assert answer.status_code == 403, origin
        assert answer.headers.get("access-control-allow-origin") != origin


def test_every_answer_is_guarded(server: Server, finished: Song) -> None:
    song = finished["id"]
    paths = ["/", "/v1/songs", f"/v1/songs/{song}/audio", f"/v1/songs/{song}/stream", "/nothing", "/health", "/history"]
    paths += ["/metrics", "/openapi.json", f"/v1/songs/{song}/spectrogram.png", "/v1/songs?limit=0", f"/{'a' * 5000}"]
    for path in paths:
        headers = server.api.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "no-referrer", path
        assert headers["x-frame-options"] == "DENY", path
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'", path
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'", path
        assert "unsafe" not in headers["content-security-policy"]
        assert not [name for name in headers if name.startswith("access-control")], path
        assert "server" not in headers, "no version for those who look for old ones"


def test_songs_are_not_kept_by_caches_of_others(api: Api, finished: Song) -> None:
    assert api.get("/v1/songs").headers["cache-control"] == "no-store"
    assert "private" in api.get(f"/v1/songs/{finished['id']}/audio").headers["cache-control"]


def test_the_page_needs_nothing_inline_and_nobody_else(api: Api) -> None:
    page = api.bytes("/").decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|\son\w+=|\sstyle=|<style|javascript:", page, re.IGNORECASE)
    files = {
        name for name in re.findall(r'(?:src|href)="([^"#]+)"', page) if not name.startswith("data:image/svg+xml,")
    }
    assert files and all(name.startswith(("/studio/", "studio/")) for name in files), files
    seen, waiting, size = set(), {name.lstrip("/") for name in files}, len(page.encode())
    while waiting:
        name = waiting.pop()
        seen.add(name)
        answer = api.get(f"/{name}")
        assert answer.status_code == 200, name
        size += len(answer.content)
        if name.endswith(".js"):
            assert answer.headers["content-type"].startswith("text/javascript")
            waiting |= {f"studio/{other}" for other in re.findall(r'from "\./([\w.]+)"', answer.text)} - seen
        # A namespace is a name, not an address.
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://(?!localhost|127\.)[\w.-]+", text), name
        assert not re.search(r"\beval\(|new Function\(", text), name
    assert size < 100_000


def test_what_users_write_never_becomes_html(api: Api) -> None:
    evil = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\" '"
    song = api.make(title=evil, lyrics=f"[verse]\n{evil}", tags=evil)
    for path in ("/v1/songs", f"/v1/songs/{song['id']}", "/history", f"/v1/songs/{song['id']}/request"):
        answer = api.get(path)
        assert answer.headers["content-type"] == "application/json", path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert evil in json.dumps(answer.json(), ensure_ascii=False).replace('\\"', '"')
    for path in (f"/{evil}", f"/v1/songs/{evil}", f"/v1/songs?state={evil}", f"/studio/{evil}", f"/audio/{evil}.mp3"):
        answer = api.get(path)
        assert answer.status_code in (400, 404), path
        assert answer.headers["content-type"] == "application/json"
    header = api.get(f"/v1/songs/{song['id']}/audio?download=true").headers["content-disposition"]
    assert not set("<>'\\") & set(header)


def test_titles_cannot_add_headers(api: Api) -> None:
    for title in ("a\r\nSet-Cookie: x=1", "a\nb", 'a"; filename="b.exe', "\u2028x"):
        answer = api.http.post("/v1/songs", json=SHORT | {"title": title})
        if answer.status_code == 400:
            continue
        song = api.done(answer.json()["songs"][0]["id"])["id"]
        headers = api.get(f"/v1/songs/{song}/audio?download=true").headers
        assert "set-cookie" not in headers
        assert re.fullmatch(r'attachment; filename="[\w-]+\.flac"', headers["content-disposition"])


def body(text: bytes, *headers: str) -> bytes:
    lines = ["POST /v1/songs HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + text


def chunked(text: bytes, size: int) -> bytes:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_a_body_in_chunks_is_a_body(server: Server) -> None:
    order = json.dumps(SHORT).encode()
    for size in (1, 7, 1000):
        answer = ask(server, body(chunked(order, size), "Transfer-Encoding: chunked"))
        assert status(answer) == 202, answer
    limit = server.api.get("/v1/limits").json()["body_bytes"]
    answer = ask(server, body(chunked(b" " * (limit + 1), 65536), "Transfer-Encoding: chunked"))
    assert status(answer) in (413, 0), "refused, or cut off"


@pytest.mark.parametrize(
    "broken", [b"zz\r\nab\r\n", b"5\r\nab\r\n0\r\n\r\n", b"-1\r\nab\r\n", b"ffffffffffffffff\r\nab"]
)
def test_chunks_that_are_broken_are_refused(server: Server, broken: bytes) -> None:
    answer = b""
    with connect(server) as connection, suppress(ConnectionError):  # it may cut the connection at any point
        connection.sendall(body(broken, "Transfer-Encoding: chunked"))
        with suppress(OSError):  # "not connected", where it has
            connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(MEGABYTE)
    assert status(answer) in (400, 413, 0)
    assert server.api.get("/health").status_code == 200


def endless(server: Server, start: bytes, piece: bytes, megabytes: int) -> int:
    """Sends pieces until the server has enough, or all are sent; how many megabytes it took meanwhile at most."""
    before, most = server.memory, 0
    with connect(server) as connection:
        connection.sendall(start)
        try:
            for _ in range(megabytes * MEGABYTE // len(piece)):
                connection.sendall(piece)
                most = max(most, server.memory)
            connection.settimeout(0.5)
            connection.recv(1000)
        except OSError:
            pass
        most = max(most, server.memory)
    return (most - before) // MEGABYTE


def test_nobody_can_fill_the_memory(start_server: StartServer) -> None:
    server = start_server()
    chunk = b"100000\r\n" + b" " * MEGABYTE + b"\r\n"
    assert endless(server, body(b"", "Transfer-Encoding: chunked"), chunk, 200) < 40, "a body without an end"
    assert endless(server, body(b"", "Content-Length: 209715200"), chunk, 200) < 40, "a long body"
    bomb = gzip.compress(b" " * (200 * MEGABYTE), 9)
    before = server.memory
    answer = ask(server, body(bomb, "Content-Encoding: gzip", f"Content-Length: {len(bomb)}"))
    assert status(answer) in (400, 413, 415)
    assert (server.memory - before) // MEGABYTE < 40, "a body that grows"
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    assert endless(server, head + b"X: ", b"a" * 65536, 100) < 40, "a header without an end"
    assert endless(server, head, b"X: y\r\n" * 10000, 50) < 40, "headers without an end"
    assert endless(server, b"GET /", b"a" * 65536, 100) < 40, "an address without an end"
    assert server.api.make()


def test_many_headers_are_refused(server: Server) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    answer = ask(server, head + b"".join(b"X%d: y\r\n" % i for i in range(20000)) + b"\r\n")
    assert status(answer) in (400, 431, 0)
    answer = ask(server, head + b"X: " + b"a" * 20000 + b"\r\n\r\n")
    assert status(answer) in (400, 431, 0)
    answer = ask(server, head + b"".join(b"X%d: y\r\n" % i for i in range(30)) + b"\r\n")
    assert status(answer) == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: localhost\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        b"GET /%zz%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/songs?%=%&==&&search=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/songs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/songs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /v1/songs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        bytes(range(256)) * 40,
    ],
)
def test_what_is_no_http_is_refused(server: Server, request_bytes: bytes) -> None:
    answer = b""
    with connect(server, 15) as connection, suppress(ConnectionError):  # it may cut the connection at any point
        connection.sendall(request_bytes)
        with suppress(OSError):  # "not connected", where it has
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(MEGABYTE):
            answer += piece
    assert status(answer) in (0, 200, 400, 403, 404, 405, 411, 413, 415, 431, 505)
    assert server.api.get("/health").status_code == 200


def test_what_follows_a_request_is_not_another_one(server: Server) -> None:
    """Bodies of GET, and whatever comes behind a body, are never read as requests (smuggling behind a proxy)."""
    hidden = b"DELETE /v1/songs/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for first in (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(hidden),
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        body(b"{}", "Content-Length: 2", "Transfer-Encoding: chunked"),
    ):
        answer = ask(server, first + hidden)
        assert answer.count(b"HTTP/1.1 ") <= 1, first
        assert b"connection: close" in answer.lower() or not answer


def test_two_lengths_are_refused(server: Server) -> None:
    """A proxy may believe the other one."""
    order = json.dumps(SHORT).encode()
    both = body(chunked(order, 100), "Transfer-Encoding: chunked", "Content-Length: 3")
    assert status(ask(server, both)) in (400, 202, 0)
    twice = body(order, f"Content-Length: {len(order)}", "Content-Length: 5")
    assert status(ask(server, twice)) in (400, 202, 0)


@pytest.fixture
def slow_clients(server: Server) -> Iterator[None]:
    """30 clients that send a header byte by byte."""
    ends = threading.Event()
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "
    with ExitStack() as open_connections:
        clients = [open_connections.enter_context(closing(connect(server))) for _ in range(30)]

        def drip() -> None:
            for i in range(10**6):
                for client in clients:
                    with suppress(OSError):
                        client.send(head[i : i + 1] or b"x")
                if ends.wait(0.2):
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        yield
        ends.set()
        thread.join()


def worst_of(api: Api, path: str, times: int) -> float:
    """Seconds of the slowest of so many answers but one in a hundred."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        assert api.get(path).status_code == 200
        took.append(time.perf_counter() - begin)
    return sorted(took)[int(0.99 * (times - 1))]


@pytest.mark.usefixtures("slow_clients")
def test_slow_clients_slow_nobody_else(api: Api, finished: Song) -> None:
    assert worst_of(api, f"/v1/songs/{finished['id']}", 100) < 0.1


@pytest.mark.slow
def test_a_client_that_never_comes_to_an_end_is_left(start_server: StartServer) -> None:
    """A header byte by byte, a second each, keeps a connection for half a minute at most."""
    server = start_server("--connections", "4")
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100
    begin = time.monotonic()
    with ExitStack() as open_connections:
        clients = [open_connections.enter_context(closing(connect(server))) for _ in range(4)]
        for i in range(len(head)):
            try:
                for client in clients:
                    client.send(head[i : i + 1])
            except OSError:
                break
            assert time.monotonic() - begin < 40, "they hold every connection there is"
            time.sleep(1)
        assert server.api.get("/health").status_code == 200


@pytest.mark.slow
def test_a_client_that_sends_nothing_is_left(server: Server) -> None:
    begin = time.monotonic()
    with connect(server, 30) as silent, connect(server, 30) as half:
        half.sendall(body(b"{", "Content-Length: 9"))
        for connection in (silent, half):
            while connection.recv(1000):
                pass
    assert time.monotonic() - begin < 25


def test_hundreds_may_wait_for_events(api: Api, server: Server, finished: Song, song_in_work: Song) -> None:
    """While others are answered at once, and a song is made."""
    with ExitStack() as streams:
        clients = []
        for _ in range(200):
            client = streams.enter_context(closing(connect(server)))
            client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            clients.append(client)
        for client in clients:
            until(lambda client=client: b"event: hello" in client.recv(4096, socket.MSG_PEEK))
        assert worst_of(api, f"/v1/songs/{finished['id']}", 100) < 0.1
        assert api.song(song_in_work["id"])["state"] == "running"
    until(lambda: api.get("/health").status_code == 200)


def test_streams_do_not_keep_a_server_from_stopping(start_server: StartServer) -> None:
    server = start_server()
    song = server.api.order(**LONG)[0]["id"]
    server.api.wait(song, "running")
    with ExitStack() as streams:
        for path in ["/v1/events", "/events", f"/v1/songs/{song}/events", f"/v1/songs/{song}/stream"] * 3:
            client = streams.enter_context(closing(connect(server)))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert client.recv(10)
        begin = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begin < 8
    server.start()
    server.ready()
    server.api.cancel(song)
