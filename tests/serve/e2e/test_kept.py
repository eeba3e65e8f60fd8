"""Nothing that was accepted is lost: the program dies at any moment, the disk is full, the machine is switched off."""

import itertools
import os
import random
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from heartmula_server import LONG, OVER, SHORT, Api, Server, generate, until

KILLS = int(os.environ.get("HEARTMULA_TEST_KILLS", "50"))
IN_WORK = 4  # songs beside each other
SEED = 20261127


def orders(chance: random.Random) -> Iterator[dict[str, Any]]:
    """Songs of 1 to 4 seconds."""
    for number in itertools.count():
        length = chance.randrange(1000, 4000)
        yield SHORT | {"seed": chance.randrange(2**63), "max_audio_length_ms": length, "title": f"song {number}"}


def codes_of(api: Api, made: dict[str, dict[str, Any]], patience: float) -> dict[str, bytes]:
    """Of songs that must all be made, by their titles."""
    return {order["title"]: api.codes(api.done(song, patience)["id"]) for song, order in made.items()}


def check_whole(server: Server, songs: list[str]) -> None:
    """Their files, and nothing that was left half done."""
    for song in songs:
        audio = server.api.bytes(f"/v1/songs/{song}/audio")
        assert audio.startswith(b"fLaC")
        assert server.api.song(song)["error"] is None
    until(lambda: not list((server.data / "audio/unfinished").iterdir()))


@pytest.mark.slow
def test_killed_again_and_again_every_song_is_the_one_that_it_would_have_been(
    tmp_path: Path, start_server: StartServer
) -> None:
    chance = random.Random(SEED)
    server = Server(tmp_path / "server")
    begin = time.monotonic()
    server.ready().api.make(**next(orders(chance)))
    pace = time.monotonic() - begin  # of this machine, now
    made: dict[str, dict[str, Any]] = {}
    coming = orders(chance)
    before: set[str] = set()
    fruitless = 0
    for _ in range(KILLS):
        in_work = server.api.get("/v1/songs?state=queued,running").json()["songs"]
        now = {song["id"] for song in in_work}
        fruitless = fruitless + 1 if now == before else 0
        before = now
        if fruitless == 3:  # the machine has become slower, and songs that never come on are given up
            pace, fruitless = 2 * pace, 0
        for order in itertools.islice(coming, IN_WORK - len(in_work)):
            made[server.api.order(**order)[0]["id"]] = order
        if chance.random() < 0.7:  # else it may be loading
            server.ready()
        time.sleep(chance.random() * pace)  # the moment of death is what this is about
        server.kill()
        server.start()

    found = codes_of(server.api, made, 120)
    check_whole(server, list(made))
    with closing(sqlite3.connect(f"file:{server.data / 'jobs.sqlite'}?mode=ro", uri=True)) as jobs:
        hits = jobs.execute("SELECT SUM(attempt - 1) FROM songs").fetchone()[0]
    assert hits > KILLS // 5, "kills hit songs in work"
    listed = server.api.get("/v1/songs?limit=200").json()["songs"]
    assert {song["id"] for song in listed} >= set(made)
    assert all(song["state"] == "done" for song in listed)

    undisturbed = start_server().api
    alone = {undisturbed.order(**order)[0]["id"]: order for order in made.values()}
    wanted = codes_of(undisturbed, alone, 120)
    assert [title for title in wanted if found[title] != wanted[title]] == []

    for song in chance.sample(list(made), 3):  # by the program itself, to the last sample
        folder = tmp_path / song
        folder.mkdir()
        request = folder / "request.json"
        request.write_bytes(server.api.bytes(f"/v1/songs/{song}/request"))
        assert generate(folder, "--request", request) == server.api.bytes(f"/v1/songs/{song}/audio")
    assert server.stop() == 0


def test_a_song_goes_on_after_a_clean_stop(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", "--songs_at_once", "2")
    order = SHORT | {"seed": 4, "max_audio_length_ms": 12_000}
    running, waiting = (server.api.order(**order)[0]["id"] for _ in range(2))
    third = server.api.order(seed=9)[0]["id"]
    until(lambda: server.api.song(running)["frames"] > 50)
    assert server.stop() == 0
    assert not re.search("error", server.log.read_text())

    server.start()
    songs = [server.api.song(song) for song in (running, waiting, third)]
    assert all(song["state"] in ("queued", "running") for song in songs)
    assert songs[0]["frames"] > 50, "its frames are there"
    assert server.api.codes(server.api.done(running)["id"]) == server.api.codes(server.api.done(waiting)["id"])
    server.api.done(third)
    request = tmp_path / "request.json"
    request.write_bytes(server.api.bytes(f"/v1/songs/{running}/request"))
    assert generate(tmp_path, "--request", request) == server.api.bytes(f"/v1/songs/{running}/audio")
    assert server.stop() == 0


def test_frames_are_on_the_disk_within_a_second(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", "--songs_at_once", "1").ready()
    song = server.api.order(**LONG)[0]["id"]
    seen = until(lambda: now if (now := server.api.song(song)["frames"]) > 100 else 0)
    server.kill()
    server.start()
    assert server.api.song(song)["frames"] >= seen, "what was told is there"
    server.api.cancel(song)
    assert server.stop() == 0


def test_a_cancel_outlives_a_kill(tmp_path: Path) -> None:
    server = Server(tmp_path / "server").ready()
    song = server.api.order(**LONG)[0]["id"]
    server.api.wait(song, "running")
    server.api.http.post(f"/v1/songs/{song}/cancel")
    server.kill()
    server.start()
    assert server.api.wait(song, *OVER)["state"] == "cancelled"
    assert server.stop() == 0


def test_what_killed_programs_left_is_cleared_away(tmp_path: Path) -> None:
    server = Server(tmp_path / "server").ready()
    song = server.api.order(**LONG)[0]["id"]
    until(lambda: server.api.song(song)["audio_seconds"] > 0)
    server.kill()
    unfinished = server.data / "audio/unfinished"
    assert list(unfinished.iterdir()), "it had begun"
    server.start()
    server.api.cancel(song)
    until(lambda: not list(unfinished.iterdir()))
    assert server.stop() == 0


def test_a_second_server_does_not_share_the_folder(tmp_path: Path) -> None:
    """SQLite's jobs are of one process: a second one would take its songs."""
    server = Server(tmp_path / "server").ready()
    song = server.api.order(**LONG)[0]["id"]
    server.api.wait(song, "running")
    second = Server(tmp_path / "server", start=False)
    with pytest.raises(AssertionError, match="does not listen"):
        second.start()
    assert "data" in second.log.read_text()
    assert server.api.song(song)["state"] == "running"
    server.api.cancel(song)
    assert server.stop() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
    if mounted is None or mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip() if mounted else 'no mount'}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    server = Server(small_disk).ready()
    done = server.api.make(seed=1)
    before = server.api.bytes(f"/v1/songs/{done['id']}/audio")
    filler = small_disk / "filler"
    with filler.open("wb") as file:  # before the song, which may take the last page itself
        song = server.api.order(seed=2, max_audio_length_ms=20_000)[0]["id"]
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            pass
    refused = 0
    for _ in range(20):
        answer = server.api.http.post("/v1/songs", json=SHORT)
        assert answer.status_code in (202, 429, 500, 503, 507)
        refused += answer.status_code != 202
    assert server.api.get("/health").status_code == 200
    assert server.api.get(f"/v1/songs/{done['id']}").status_code == 200
    over = server.api.wait(song, *OVER, "queued", "running")
    filler.unlink()
    accepted = [song["id"] for song in server.api.get("/v1/songs?limit=200").json()["songs"]]
    assert len(accepted) == 2 + 20 - refused, "what was refused is not there, what was accepted is"
    for each in accepted:
        over = server.api.wait(each, *OVER)
        assert over["state"] == "done" or over["error"], "failed with a reason"
        if over["state"] == "done":
            assert server.api.bytes(f"/v1/songs/{each}/audio").startswith(b"fLaC")
    assert server.api.bytes(f"/v1/songs/{done['id']}/audio") == before
    assert server.api.make(seed=3)
    server.stop()
    server.start()
    assert server.api.song(done["id"])["state"] == "done"
    assert server.stop() == 0
