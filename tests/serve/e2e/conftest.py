"""Servers for the tests: one that most of them share, and ones of a test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heartmula_server import LONG, Api, Server, Song

StartServer = Callable[..., Server]


def end(server: Server) -> None:
    """It must still be there, and stop cleanly."""
    assert server.process.poll() is None, f"the server is gone: {server.log.read_text()}"
    assert server.stop() == 0
    assert not [line for line in server.log.read_text().splitlines() if line.startswith("heartmula: error: ")]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Shared: whoever begins a long song here ends it."""
    server = Server(tmp_path_factory.mktemp("shared")).ready()
    yield server
    end(server)


@pytest.fixture
def api(server: Server) -> Api:
    """A client of the shared server."""
    return server.api


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts servers of a module's own, which end with it."""
    servers: list[Server] = []

    def start(*flags: str | Path) -> Server:
        servers.append(Server(tmp_path_factory.mktemp("server"), *flags))
        return servers[-1].ready()

    yield start
    for server in servers:
        end(server)


@pytest.fixture
def song_in_work(api: Api) -> Iterator[Song]:
    """A song that is being made, and will be for longer than a test takes."""
    song = api.order(**LONG)[0]
    yield api.wait(song["id"], "running")
    api.cancel(song["id"])


@pytest.fixture(scope="session")
def finished(server: Server) -> Song:
    """A finished song of the shared server; nobody changes it."""
    return server.api.make(title="The finished one", seed=11)
