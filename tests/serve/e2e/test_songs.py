"""Orders, and what becomes of them."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import StartServer
from heartmula_server import LONG, SHORT, Api, Server, Song, generate, until

UNKNOWN = "a" * 16
FRAME_MS = 80
FRAMES = 11  # of 800 ms: heartlib makes one more


def test_a_song_is_made_and_says_so(api: Api) -> None:
    answer = api.http.post("/v1/songs", json=SHORT | {"title": "Golden ☀", "seed": 2**64 - 1})
    assert answer.status_code == 202
    (song,) = answer.json()["songs"]
    assert answer.headers["location"] == f"/v1/songs/{song['id']}"
    assert song["state"] in ("queued", "running")
    assert (song["title"], song["favourite"], song["variation"], song["set"]) == ("Golden ☀", False, 1, song["id"])
    assert song["begin"] is song["result"] is song["error"] is song["ended_at"] is song["duration"] is None
    assert (song["request"]["seed"], song["seed_text"]) == (2**64 - 1, str(2**64 - 1))

    done = api.done(song["id"])
    assert done["frames"] == done["max_frames"] == FRAMES
    assert done["duration"] == done["audio_seconds"] == 0.88
    assert (done["progress"], done["place"], done["stage"]) == (1, None, None)
    assert song["created_at"] <= done["started_at"] <= done["ended_at"] <= time.time() + 1
    assert done["result"]["stop_reason"] == "length"
    assert 0 < len(done["result"]["waveform"]) <= 1000
    assert all(0 <= peak <= 255 for peak in done["result"]["waveform"])
    assert done["request"]["lyrics"] == SHORT["lyrics"]


def test_a_seed_that_nobody_chose_is_told(api: Api) -> None:
    first, second = (api.order(seed=-1)[0] for _ in range(2))
    assert first["seed_text"] == str(first["request"]["seed"]) != second["seed_text"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"lyrics": 1}, "lyrics"),
    ({"tags": ["piano"]}, "tags"),
    ({"title": 1}, "title"),
    ({"title": "a\0b"}, "title"),
    ({"seed": -2}, "seed"),
    ({"seed": 2**64}, "seed"),
    ({"seed": "7"}, "seed"),
    ({"max_audio_length_ms": -1}, "max_audio_length_ms"),
    ({"max_audio_length_ms": 1e3}, "max_audio_length_ms"),
    ({"max_audio_length_ms": 10**9}, "max_audio_length_ms"),
    ({"min_audio_length_ms": 900}, "min_audio_length_ms"),
    ({"ignore_eos": 1}, "ignore_eos"),
    ({"topk": 0}, "topk"),
    ({"temperature": 0}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"cfg_scale": -1}, "cfg_scale"),
    ({"quality": "best"}, "quality"),
    ({"windows": "late"}, "windows"),
    ({"codec_steps": 0}, "codec_steps"),
    ({"codec_solver": "magic"}, "codec_solver"),
    ({"codec_grid": "1,0"}, "codec_grid"),
    ({"codec_guidance_steps": "99"}, "codec_guidance_steps"),
    ({"codec_guidance_scale": None}, "codec_guidance_scale"),
    ({"fade_out_ms": -1}, "fade_out_ms"),
    ({"sample_format": "f32"}, "sample_format"),
    ({"songs": 0}, "songs"),
    ({"songs": 17}, "songs"),
    ({"songs": "2"}, "songs"),
    ({"begin": "x"}, "begin"),
    ({"begin": {}}, "begin.song"),
    ({"begin": {"song": 1}}, "begin.song"),
    ({"begin": {"song": UNKNOWN, "to_ms": -1}}, "to_ms"),
    ({"begin": {"song": UNKNOWN, "from_ms": 1}}, "from_ms"),
    ({"tempo": 120}, "tempo"),
    # Settings of the program that are the server's, not its clients'.
    ({"save_path": "/tmp/song.flac"}, "save_path"),
    ({"load_codes": "/tmp/codes"}, "load_codes"),
    ({"model_path": "/tmp"}, "model_path"),
    ({"threads": 1}, "threads"),
    ({"device": "cpu"}, "device"),
]


@pytest.mark.parametrize(("fields", "named"), REFUSED, ids=[json.dumps(fields)[:40] for fields, _ in REFUSED])
def test_an_order_that_cannot_be_is_refused_by_name(api: Api, fields: dict[str, Any], named: str) -> None:
    answer = api.http.post("/v1/songs", json=SHORT | fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert named in error
    assert "\n" not in error


def test_lyrics_longer_than_the_model_can_read_are_refused_as_such(api: Api) -> None:
    answer = api.http.post("/v1/songs", json={"lyrics": "la " * 20000})
    assert answer.status_code == 400
    assert "min_audio_length_ms" not in answer.json()["error"]


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"{", b"\xff", b'{"a": 1, "a": 2}', b"[" * 5000, b'{"lyrics": "\\ud800"}']
)
def test_a_body_that_is_no_object_is_refused(api: Api, body: bytes) -> None:
    for path in ("/v1/songs", "/v1/lint", "/v1/audio/speech", "/v1/session", "/generate/music"):
        answer = api.http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, path
        assert answer.json()["error"]


def test_a_body_of_another_type_is_refused(api: Api) -> None:
    order = json.dumps(SHORT)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = api.http.post("/v1/songs", content=order, headers={"Content-Type": kind})
        assert answer.status_code in (400, 415), kind
        assert answer.json()["error"]
    answer = api.http.post("/v1/songs", content=order, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 202


def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    limit = api.get("/v1/limits").json()["body_bytes"]
    answer = api.http.post("/v1/songs", json={"lyrics": "a" * limit})
    assert answer.status_code == 413
    assert answer.json()["error"]


def test_a_post_without_a_body_needs_no_length(server: Server, song_in_work: Song) -> None:
    """`curl -X POST` sends none."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        request = f"POST /v1/songs/{song_in_work['id']}/cancel HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 202 ")


def operations(api: Api) -> list[tuple[str, str]]:
    """Method and path of each route."""
    paths = api.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_every_route_of_a_song_says_that_there_is_none(api: Api) -> None:
    routes = [(method, path) for method, path in operations(api) if "{id}" in path]
    assert len(routes) >= 10
    for method, path in routes:
        for song in (UNKNOWN, "x", "A" * 16, "%00" * 16):
            answer = api.http.request(method, path.replace("{id}", song), json={} if method == "PATCH" else None)
            assert answer.status_code == 404, (method, path, song)
            assert answer.json()["error"] == "there is no such song"
    answer = api.http.post("/v1/songs", json=SHORT | {"begin": {"song": UNKNOWN}})
    assert answer.status_code == 404


def test_another_method_is_refused_with_those_that_there_are(api: Api) -> None:
    allowed: dict[str, set[str]] = {}
    for method, path in operations(api):
        allowed.setdefault(path, set()).add(method)
    for path, methods in allowed.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
            answer = api.http.request(method, path.replace("{id}", UNKNOWN), headers={"Content-Length": "0"})
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["allow"].split(", ")) == methods
            assert answer.json()["error"]


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/", "/v1/songs/", "//v1/songs", "/V1/songs", "/studio/x.js"])
def test_nothing_is_404(api: Api, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]


def test_variations_are_the_songs_of_the_next_seeds(api: Api) -> None:
    songs = api.order(songs=3, seed=2**64 - 1)
    assert [song["seed_text"] for song in songs] == [str(2**64 - 1), "0", "1"]
    assert [song["variation"] for song in songs] == [1, 2, 3]
    assert {song["set"] for song in songs} == {songs[0]["id"]}
    codes = [api.codes(api.done(song["id"])["id"]) for song in songs]
    assert len(set(codes)) == 3
    assert codes[2] == api.codes(api.make(seed=1)["id"])
    listed = api.get(f"/v1/songs?set={songs[0]['id']}").json()["songs"]
    assert [song["variation"] for song in listed] == [3, 2, 1]


def test_the_program_makes_the_same_file_of_the_request(api: Api, tmp_path: Path) -> None:
    song = api.make(seed=5, max_audio_length_ms=2000, title="Once more")
    request = tmp_path / "request.json"
    request.write_bytes(api.bytes(f"/v1/songs/{song['id']}/request"))
    assert generate(tmp_path, "--request", request) == api.bytes(f"/v1/songs/{song['id']}/audio")


def test_songs_beside_each_other_are_those_that_they_are_alone(api: Api, tmp_path: Path) -> None:
    lengths = [800, 2400, 1600, 3200]
    songs = [api.order(seed=seed, max_audio_length_ms=ms)[0] for seed, ms in enumerate(lengths)]
    for song in songs:
        api.done(song["id"])
        folder = tmp_path / song["id"]
        folder.mkdir()
        request = folder / "request.json"
        request.write_bytes(api.bytes(f"/v1/songs/{song['id']}/request"))
        assert generate(folder, "--request", request) == api.bytes(f"/v1/songs/{song['id']}/audio")


def test_codes_can_be_decoded_and_gone_on_from(api: Api, finished: Song, tmp_path: Path) -> None:
    codes = tmp_path / "song.safetensors"
    codes.write_bytes(api.bytes(f"/v1/songs/{finished['id']}/codes"))
    assert generate(tmp_path, "--load_codes", codes, "--windows", "early") == api.bytes(
        f"/v1/songs/{finished['id']}/audio"
    )


def test_a_song_goes_on_from_another_one(api: Api, finished: Song) -> None:
    start = api.codes(finished["id"])
    longer = api.make(seed=3, max_audio_length_ms=1600, begin={"song": finished["id"]})
    assert longer["begin"] == {"song": finished["id"], "to_ms": FRAMES * FRAME_MS}
    assert longer["frames"] == 21
    assert frames_of(api.codes(longer["id"]))[:FRAMES] == frames_of(start)


def test_the_end_of_a_song_is_replaced_with_other_lyrics(api: Api, finished: Song) -> None:
    start = frames_of(api.codes(finished["id"]))
    begin = {"song": finished["id"], "to_ms": 5 * FRAME_MS + 79}  # whole frames are kept
    other = api.make(lyrics="[chorus]\nother words", seed=3, begin=begin)
    frames = frames_of(api.codes(other["id"]))
    assert frames[:5] == start[:5]
    assert frames[5:] != start[5:]
    again = api.make(lyrics="[chorus]\nother words", seed=3, begin=begin)
    assert api.codes(again["id"]) == api.codes(other["id"])


def test_a_beginning_must_be_there_and_fit(api: Api, finished: Song) -> None:
    begin = {"song": finished["id"], "to_ms": 960}
    assert api.http.post("/v1/songs", json=SHORT | {"begin": begin}).status_code == 409
    short = SHORT | {"max_audio_length_ms": 400, "begin": {"song": finished["id"]}}
    assert api.http.post("/v1/songs", json=short).status_code == 400


def test_a_song_outlives_the_one_that_it_began_with(api: Api) -> None:
    first = api.make()
    second = api.order(max_audio_length_ms=1600, begin={"song": first["id"], "to_ms": 400})[0]
    assert api.http.delete(f"/v1/songs/{first['id']}").status_code == 204
    assert api.done(second["id"])["begin"] == {"song": first["id"], "to_ms": 400}


def frames_of(codes: bytes) -> list[bytes]:
    """Of 8 codes, of 32 bits each."""
    return [codes[at : at + 32] for at in range(0, len(codes), 32)]


def test_pages_hold_every_song_once(start_server: StartServer) -> None:
    api = start_server("--songs_at_once", "1").api
    made = [api.order(**LONG)[0]["id"]]
    made += [song["id"] for _ in range(3) for song in api.order(songs=4)]
    seen, before = [], ""
    for _ in range(10):
        page = api.get(f"/v1/songs?limit=5{before}").json()
        seen += [song["id"] for song in page["songs"]]
        if page["next"] is None:
            break
        api.order()  # a newer one moves no page
        before = f"&before={page['next']}"
    assert seen == made[::-1]


def ids(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200
    return {song["id"] for song in answer.json()["songs"]}


def test_songs_are_found_by_what_they_are(start_server: StartServer) -> None:
    api = start_server().api
    title = api.order(title="100% Ärger_x")[0]["id"]
    lyrics = api.order(lyrics="[verse]\nÜber den Fluss")[0]["id"]
    tags = api.order(tags="zither")[0]["id"]
    every = {title, lyrics, tags}
    for song in every:
        api.done(song)
    for search, found in {
        "ärger": {title},
        "ÜBER den": {lyrics},
        "zither": {tags},
        "%": {title},
        "_x": {title},
        "\\": set(),
        "'; DROP TABLE songs; --": set(),
        "": every,
    }.items():
        assert ids(api.http.get("/v1/songs", params={"search": search})) == found, search
    assert api.http.patch(f"/v1/songs/{tags}", json={"favourite": True}).json()["favourite"] is True
    assert ids(api.get("/v1/songs?favourite=true")) == {tags}
    assert ids(api.get("/v1/songs?favourite=false")) == {title, lyrics}
    long = api.order(**LONG)[0]["id"]
    api.wait(long, "running")
    assert ids(api.get("/v1/songs?state=done")) == every
    assert ids(api.get("/v1/songs?state=queued,running")) == {long}
    assert ids(api.get("/v1/songs?state=running&search=piano")) == {long}
    api.cancel(long)
    assert ids(api.get("/v1/songs?state=cancelled,failed")) == {long}


NO_QUESTIONS = ["limit=0", "limit=201", "limit=x", "limit=1.5", "before=-1", "before=x", "before=99999999999999999999"]
NO_QUESTIONS += ["favourite=yes", "state=lost", "state=done,lost", f"search={'a' * 201}"]


@pytest.mark.parametrize("query", NO_QUESTIONS)
def test_a_question_that_cannot_be_is_refused_by_name(api: Api, query: str) -> None:
    answer = api.get(f"/v1/songs?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["error"]


def test_title_and_mark_can_be_changed(api: Api) -> None:
    song = api.make(title="before")
    path = f"/v1/songs/{song['id']}"
    changed = api.http.patch(path, json={"title": "after <b>"}).json()
    assert (changed["title"], changed["favourite"]) == ("after <b>", False)
    assert api.http.patch(path, json={"favourite": True}).json()["title"] == "after <b>"
    assert api.http.patch(path, json={}).status_code == 200
    for change in ({"title": 1}, {"title": None}, {"title": "a\0"}, {"favourite": 1}, {"lyrics": "x"}, {"id": "x"}):
        assert api.http.patch(path, json=change).status_code == 400, change
    assert api.song(song["id"])["title"] == "after <b>"


def test_a_deleted_song_leaves_nothing(server: Server, api: Api) -> None:
    song = api.make()["id"]
    for audio in ("audio?format=mp3", "audio?format=wav", "spectrogram.png"):
        api.bytes(f"/v1/songs/{song}/{audio}")
    assert any(song in file.name for file in server.data.rglob("*"))
    assert api.http.delete(f"/v1/songs/{song}").status_code == 204
    assert api.get(f"/v1/songs/{song}").status_code == 404
    assert api.http.delete(f"/v1/songs/{song}").status_code == 404
    assert [file for file in server.data.rglob("*") if song in file.name] == []


def test_a_song_in_work_is_cancelled_not_deleted(api: Api, song_in_work: Song) -> None:
    path = f"/v1/songs/{song_in_work['id']}"
    assert api.http.delete(path).status_code == 409
    answer = api.http.post(f"{path}/cancel")
    assert answer.status_code == 202
    assert answer.json()["id"] == song_in_work["id"]
    asked = time.monotonic()
    over = api.wait(song_in_work["id"], "cancelled")
    assert time.monotonic() - asked < 3
    assert over["ended_at"] is not None
    assert api.get(f"{path}/codes").status_code == 200, "its codes stay"
    for gone in ("audio", "stream", "spectrogram.png"):
        assert api.get(f"{path}/{gone}").status_code == 409
    assert api.http.post(f"{path}/cancel").status_code == 409
    assert api.http.delete(path).status_code == 204


def test_what_is_not_there_yet_is_a_conflict(api: Api, song_in_work: Song) -> None:
    path = f"/v1/songs/{song_in_work['id']}"
    assert api.get(f"{path}/audio").status_code == 409
    assert api.get(f"{path}/spectrogram.png").status_code == 409
    assert api.http.patch(path, json={"title": "early"}).status_code == 200
    assert api.bytes(f"{path}/request")


def test_a_full_queue_says_when_to_come_back(start_server: StartServer) -> None:
    api = start_server("--queue", "2", "--songs_at_once", "1").api
    running = api.order(**LONG)[0]["id"]
    api.wait(running, "running")
    waiting = [song["id"] for song in api.order(songs=2)]
    assert [api.song(song)["place"] for song in waiting] == [0, 1]
    assert api.get("/v1/limits").json()["queue_free"] == 0
    assert api.get(f"/v1/songs/{waiting[0]}/codes").status_code == 409
    for path, body in (
        ("/v1/songs", SHORT),
        ("/v1/audio/speech", {"input": "la"}),
        ("/generate/music", {"prompt": "x"}),
    ):
        answer = api.http.post(path, json=body)
        assert answer.status_code == 429, path
        assert int(answer.headers["retry-after"]) > 0
        error = answer.json()["error"]
        assert "the queue is full" in (error, error["message"] if path.startswith("/v1/audio") else "")
    api.cancel(waiting[0])  # one that waits ends at once
    assert api.song(waiting[0])["state"] == "cancelled"
    assert api.song(waiting[1])["place"] == 0
    assert api.http.post("/v1/songs", json=SHORT).status_code == 202
    assert api.http.post("/v1/songs", json=SHORT | {"songs": 2}).status_code == 429
    api.cancel(running)
    assert api.done(waiting[1])


def test_limits_and_models_tell_what_there_is(api: Api) -> None:
    limits = api.get("/v1/limits").json()
    assert limits["songs_per_request"] == 16
    assert limits["max_audio_length_ms"] % FRAME_MS == 0
    assert limits["queue"] >= limits["queue_free"] > 0
    assert limits["songs_at_once"] >= 1
    assert limits["seconds_per_hour"] is limits["queue_per_key"] is None
    assert limits["defaults"]["temperature"] == 1
    assert {"verse", "chorus"} <= set(limits["sections"])
    assert limits["tags_known"] is True
    assert "piano" in limits["tags"]
    (model,) = api.get("/v1/models").json()["data"]
    assert (model["object"], model["owned_by"]) == ("model", "heartmula")
    assert model["fingerprint"] and model["codec"]["fingerprint"]


def test_lint_points_at_lines(api: Api) -> None:
    texts = {"lyrics": "[verse]\nla\n[Foo]\n", "tags": "Piano, happy"}
    answer = api.http.post("/v1/lint", json=texts)
    assert answer.status_code == 200
    warnings = answer.json()["warnings"]
    assert {"field": "lyrics", "line": 3, "code": "unknown-section"}.items() <= {
        (key, value) for warning in warnings if warning["field"] == "lyrics" for key, value in warning.items()
    }
    assert any(warning["field"] == "tags" for warning in warnings)
    assert all("\n" not in warning["message"] for warning in warnings)
    assert api.http.post("/v1/lint", json={"lyrics": "[verse]\nla", "tags": "piano,happy"}).json() == {"warnings": []}
    for wrong in ({"lyrics": 1}, {"foo": ""}, {"max_audio_length_ms": "x"}):
        assert api.http.post("/v1/lint", json=wrong).status_code == 400, wrong


def test_health_and_readiness(api: Api) -> None:
    assert api.get("/health").json()["status"] == "ok"
    assert api.get("/ready").json() == {"status": "ready"}


def test_orders_are_taken_while_models_are_loaded(tmp_path: Path) -> None:
    server = Server(tmp_path)
    song = server.api.order()[0]["id"]
    until(lambda: server.api.get("/ready").status_code in (200, 503))
    server.api.done(song)
    assert server.stop() == 0


def test_head_is_get_without_a_body(api: Api, finished: Song) -> None:
    for path in ("/v1/limits", "/", f"/v1/songs/{finished['id']}/audio", "/v1/events"):
        answer = api.http.head(path)
        assert answer.status_code == 200, path
        assert answer.content == b""
