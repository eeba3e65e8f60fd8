"""Several servers on one PostgreSQL: one queue, one answer, and workers that die."""

import itertools
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heartmula_server import LONG, SHORT, Api, Server, generate, until
from test_audio import WAV_HEADER_BYTES, samples_of

CONNECTION = os.environ.get("HEARTMULA_TEST_POSTGRES")
RESTART = os.environ.get("HEARTMULA_TEST_POSTGRES_RESTART", "")
LEASE_MS = 1000  # the shortest
KILLS = int(os.environ.get("HEARTMULA_TEST_POSTGRES_KILLS", "20"))

pytestmark = pytest.mark.skipif(not CONNECTION, reason="no PostgreSQL server: run by tests/serve/with_postgres")
numbers = itertools.count()


@pytest.fixture
def database() -> str:
    """An empty database of a test's own."""
    name = f"e2e_{os.getpid()}_{next(numbers)}"
    subprocess.run(["psql", "-q", "-d", CONNECTION, "-c", f"CREATE DATABASE {name}"], check=True)
    return CONNECTION.replace("dbname=postgres", f"dbname={name}")


StartWorker = Callable[..., Server]


@pytest.fixture(params=["audio_dir", "audio_in_database"])
def start_worker(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts servers of one database, which keep their audio in one folder or in the database."""
    servers: list[Server] = []

    def start(*flags: str, wait: bool = True) -> Server:
        shared = ("--audio_dir", tmp_path / "audio") if request.param == "audio_dir" else ("--audio_in_database",)
        folder = tmp_path / f"server{len(servers)}"
        common = ("--database", database, "--lease_ms", str(LEASE_MS))
        servers.append(Server(folder, *common, *shared, *flags))
        return servers[-1].ready() if wait else servers[-1]

    yield start
    for server in servers:
        assert server.stop() == 0, server.log.read_text()


def test_either_answers_for_every_song(start_worker: StartWorker) -> None:
    one, two = start_worker(), start_worker()
    songs = [server.api.order(seed=seed)[0]["id"] for seed, server in enumerate([one, two] * 3)]
    for song in songs:
        one.api.done(song)
        for path in ("", "/audio", "/audio?format=mp3", "/codes", "/request", "/stream?format=pcm", "/spectrogram.png"):
            assert one.api.bytes(f"/v1/songs/{song}{path}") == two.api.bytes(f"/v1/songs/{song}{path}"), path
    assert one.api.get("/v1/songs").json() == two.api.get("/v1/songs").json()
    assert [song["id"] for song in two.api.get("/v1/songs").json()["songs"]] == songs[::-1]
    assert one.api.http.patch(f"/v1/songs/{songs[0]}", json={"title": "one's"}).status_code == 200
    assert two.api.song(songs[0])["title"] == "one's"
    assert two.api.http.delete(f"/v1/songs/{songs[0]}").status_code == 204
    for path in ("", "/audio", "/codes"):
        assert one.api.get(f"/v1/songs/{songs[0]}{path}").status_code == 404


def test_both_work_at_one_queue(start_worker: StartWorker) -> None:
    workers = [start_worker("--songs_at_once", "1") for _ in range(2)]
    songs = [song["id"] for song in workers[0].api.order(songs=2, **LONG)]
    for song in songs:
        workers[0].api.wait(song, "running")
    workers[1].api.cancel(*songs)


def test_one_hears_of_what_the_other_does(start_worker: StartWorker) -> None:
    """An api process makes none itself: its events, its stream and its cancel reach across."""
    worker = start_worker("--role", "worker")
    api = start_worker("--role", "api").api
    assert Api(worker.url).get("/v1/songs").status_code == 404, "a worker does nothing else"
    assert worker.api.get("/metrics").status_code == 200
    song = api.order(max_audio_length_ms=12_000)[0]["id"]
    states = []
    with api.events(f"/v1/songs/{song}/events") as events:
        states += [now["state"] for _, now in events]
    assert states[-1] == "done"
    assert "running" in states

    song = api.order()[0]["id"]
    with api.http.stream("GET", f"/v1/songs/{song}/stream") as answer:
        heard = b"".join(answer.iter_bytes())
    assert heard[WAV_HEADER_BYTES:] == samples_of(api.bytes(f"/v1/songs/{song}/audio?format=wav"))

    song = api.order(**LONG)[0]["id"]
    api.wait(song, "running")
    assert api.http.delete(f"/v1/songs/{song}").status_code == 409
    begin = time.monotonic()
    api.cancel(song)
    assert time.monotonic() - begin < 4


def test_an_api_alone_keeps_songs_for_a_worker_that_comes(start_worker: StartWorker) -> None:
    api = start_worker("--role", "api").api
    song = api.order()[0]["id"]
    assert api.song(song)["state"] == "queued"
    start_worker("--role", "worker", wait=False)
    api.done(song)


def test_a_worker_that_dies_is_replaced_within_its_lease(start_worker: StartWorker, tmp_path: Path) -> None:
    one = start_worker()
    song = one.api.order(seed=7, max_audio_length_ms=30_000)[0]["id"]
    until(lambda: one.api.song(song)["frames"] > 50)
    two = start_worker()
    frames = one.api.song(song)["frames"]
    one.kill()
    killed = time.monotonic()
    until(lambda: two.api.song(song)["frames"] > frames)
    assert time.monotonic() - killed < 4 * LEASE_MS / 1000
    two.api.done(song)
    request = tmp_path / "request.json"
    request.write_bytes(two.api.bytes(f"/v1/songs/{song}/request"))
    assert generate(tmp_path, "--request", request) == two.api.bytes(f"/v1/songs/{song}/audio")
    one.start()


def test_a_worker_that_stops_gives_its_songs_back_at_once(start_worker: StartWorker) -> None:
    one = start_worker("--lease_ms", "60000")
    song = one.api.order(max_audio_length_ms=60_000)[0]["id"]
    until(lambda: one.api.song(song)["frames"] > 20)
    assert one.stop() == 0
    two = start_worker()
    two.api.wait(song, "running", "done", patience=5)
    two.api.cancel(song)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start_worker", "kills"), [("audio_dir", KILLS), ("audio_in_database", KILLS // 4)], indirect=["start_worker"]
)
def test_killed_again_and_again_no_song_is_lost_or_another(
    start_worker: StartWorker, kills: int, tmp_path: Path
) -> None:
    chance = random.Random(20261127)
    workers = [start_worker("--songs_at_once", "2") for _ in range(2)]
    made: dict[str, dict[str, Any]] = {}
    for kill in range(kills):
        order = SHORT | {"seed": chance.randrange(2**63), "max_audio_length_ms": chance.randrange(1000, 4000)}
        victim = workers[kill % 2]
        made[workers[1 - kill % 2].api.order(**order)[0]["id"]] = order
        time.sleep(chance.random() * 0.7)  # the moment of death is what this is about
        victim.kill()
        victim.start()
    api = workers[0].api
    found = {song: api.codes(api.done(song, 120)["id"]) for song in made}
    assert len(made) == kills
    listed = workers[1].api.get("/v1/songs?limit=200").json()["songs"]
    assert {song["id"] for song in listed if song["state"] == "done"} == set(made)

    alone = Server(tmp_path / "alone")
    for song, order in made.items():
        assert alone.api.codes(alone.api.make(**order)["id"]) == found[song], order
    assert alone.stop() == 0


@pytest.mark.skipif(not RESTART, reason="the database cannot be restarted")
def test_a_database_that_restarts_is_waited_for(database: str, tmp_path: Path) -> None:
    server = Server(tmp_path, "--database", database, "--lease_ms", "5000").ready()
    song = server.api.order(max_audio_length_ms=60_000)[0]["id"]
    until(lambda: server.api.song(song)["frames"] > 20)
    subprocess.run([RESTART], check=True)
    until(lambda: server.api.get("/v1/songs").status_code == 200, 20)
    assert server.api.done(song), "no connection that broke is told of again"
    assert server.api.make()
    with server.api.events("/v1/events") as events:
        assert next(events)[0] == "hello"
        server.api.order()
        assert next(events)[0] == "song", "it listens again"
    assert server.stop() == 0


def test_a_database_that_is_not_there_is_said(tmp_path: Path) -> None:
    server = Server(tmp_path, "--database", "host=/nonexistent user=x password=quite-secret dbname=x", start=False)
    with pytest.raises(AssertionError, match="does not listen"):
        server.start()
    assert "quite-secret" not in server.log.read_text()
    assert server.process.wait(timeout=10) not in (0, 134, 139)


def test_roles_need_a_database_that_is_shared(tmp_path: Path) -> None:
    for flags in (("--role", "worker"), ("--role", "api"), ("--audio_in_database",)):
        server = Server(tmp_path, *flags, start=False)
        with pytest.raises(AssertionError, match="--database"):
            server.start()
