"""Files outside of the data folder: asked for through every route, and never got."""

import itertools
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from heartmula_server import SHORT, Server, until
from test_safety import ask

CANARY = "c4n4ry-of-the-outside"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose neighbours are files that nobody may read."""
    folder = tmp_path_factory.mktemp("house")
    for name in (
        "canary",
        "canary.flac",
        "canary.mp3",
        "canary.json",
        "canary.safetensors",
        "canary.png",
        "lyrics.txt",
    ):
        (folder / name).write_text(f"{CANARY} {name}")
    server = Server(folder, "--codec_steps", "1").ready()
    # Where a path of a song would begin.
    for inside in ("data", "data/audio", "data/audio/songs", "data/audio/converted"):
        (folder / inside / "canary.flac").write_text(CANARY)
        (folder / inside / "canary.mp3").write_text(CANARY)
    yield server
    assert server.stop() == 0


def ways_to(path: Path, folder: Path) -> list[str]:
    """What leads to a file, if somebody takes it for a path."""
    relative = os.path.relpath(path, folder)
    ways = [str(path), relative, f"../{path.name}", f"../../{path.name}", f"../../../{path.name}", f"....//{path.name}"]
    ways += [f"file://{path}", f"..\\..\\{path.name}", f"../../..{path}", f"{path}\0.flac", f"./{path.name}", path.name]
    ways += ["../../../../../../etc/passwd", "/etc/passwd", "/proc/self/environ", "/proc/self/cmdline", "~/.bashrc"]
    ways += ["../jobs.sqlite", "../../jobs.sqlite", "jobs.sqlite", "canary", "../../data/jobs.sqlite"]
    return ways


def encodings(way: str) -> list[str]:
    """How a URL may say it."""
    once = quote(way, safe="")
    overlong = way.replace(".", "%c0%ae").replace("/", "%c0%af")
    return [
        quote(way),
        once,
        quote(once, safe=""),
        once.lower(),
        way.replace(".", "%2e").replace("\0", "%00").replace("\\", "%5c"),
        way.replace("/", "%2f").replace("\0", "%00").replace("\\", "%5c"),
        overlong.replace("\0", "%00").replace("\\", "%5c"),
        way.replace("/", "%u2215").replace("\0", "%u0000").replace("\\", "%5c"),
    ]


def check_secret(answer: bytes, asked: Any) -> None:
    """No content of a file."""
    for secret in (CANARY.encode(), b"root:", b"SQLite format", b"HEARTMULA=", b"serve\0--"):
        assert secret not in answer, asked


def test_no_path_leads_outside(house: Server) -> None:
    song = house.api.make()["id"]
    paths = house.api.get("/openapi.json").json()["paths"]
    templates = [path for path in paths if "{id}" in path]
    templates += [
        "/studio/{id}",
        "/audio/{id}",
        "/audio/{id}.mp3",
        "/jobs/{id}",
        "/download_track/{id}",
        "/{id}",
        "{id}",
    ]
    templates += [f"/v1/songs/{song}/{{id}}", "/v1/{id}", "/ref_audio/{id}", "/songs/{id}/like"]
    asked = 0
    for template, name in itertools.product(templates, ("canary", "canary.flac")):
        for way in ways_to(house.folder / name, house.data):
            for encoded in encodings(way):
                target = template.replace("{id}", encoded)
                target = target if target.startswith("/") else "/" + target
                request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
                if any(letter in target for letter in " \r\n\0"):
                    continue
                answer = ask(house, request.encode())
                check_secret(answer, target)
                assert answer[9:12] in (b"400", b"404", b"405", b"414"), target
                asked += 1
    assert asked > 3000


def test_no_parameter_is_a_path(house: Server) -> None:
    song = house.api.make()["id"]
    paths = house.api.get("/openapi.json").json()["paths"]
    asked = 0
    for path, methods in paths.items():
        parameters = [parameter["name"] for parameter in methods.get("get", {}).get("parameters", [])]
        for parameter in {*parameters, "file", "path", "download"} - {"id"}:
            if path.endswith(("events", "stream")) and parameter != "format":
                continue
            for way in ways_to(house.folder / "canary.flac", house.data):
                for encoded in encodings(way):
                    if any(letter in encoded for letter in " \0"):
                        continue
                    target = f"{path.replace('{id}', song)}?{parameter}={encoded}"
                    check_secret(ask(house, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()), target)
                    asked += 1
    assert asked > 1000


def text_fields(house: Server) -> list[tuple[str, str, dict[str, Any]]]:
    """Path, field and a good body, of each field of a request, and of those that the program knows as files."""
    schemas = house.api.get("/openapi.json").json()["paths"]
    files = ["save_path", "load_codes", "save_codes", "model_path", "lora", "muq_embed", "spectrogram", "request"]
    files += ["mula_path", "codec_path", "tokenizer", "lyrics_file", "ref_audio_id", "file", "path"]
    fields = []
    for path, body in (("/v1/songs", SHORT), ("/v1/audio/speech", {"input": "la", "max_audio_length_ms": 80})):
        schema = schemas[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        known = {field for _, field, _ in fields}
        fields += [(path, field, body) for field in {*schema["properties"], *files} - known]
    fields += [("/v1/lint", field, {"lyrics": "", "tags": ""}) for field in ("lyrics", "tags", *files)]
    studio = ("prompt", "lyrics", "tags", "title", "parent_job_id", "ref_audio_id", "negative_tags", "llm_model")
    fields += [("/generate/music", field, {"prompt": "x", "duration_ms": 80}) for field in studio]
    return fields


def test_no_field_is_a_path(house: Server) -> None:
    """Lyrics may look like a path, and are sung then."""
    api = house.api
    songs = set()
    for path, field, good in text_fields(house):
        for way in (str(house.folder / "lyrics.txt"), "../../canary"):
            value = {"song": way} if field == "begin" else way
            answer = api.http.post(path, json=good | {field: value})
            check_secret(answer.content, (path, field, value))
            assert answer.status_code in (200, 202, 400, 404), (path, field, value, answer.text)
            if answer.status_code == 202:
                songs.update(song["id"] for song in answer.json()["songs"])
            elif path == "/generate/music" and answer.status_code == 200:
                songs.add(answer.json()["job_id"])
    assert songs
    for song in songs:
        api.done(song)
        for part in ("", "/request", "/codes", "/audio"):
            check_secret(api.bytes(f"/v1/songs/{song}{part}"), (song, part))


def test_lyrics_that_name_a_file_are_lyrics(house: Server) -> None:
    lyrics = str(house.folder / "lyrics.txt")
    song = house.api.make(lyrics=lyrics, tags=lyrics)
    request = json.loads(house.api.bytes(f"/v1/songs/{song['id']}/request"))
    assert request["lyrics"] == request["tags"] == lyrics
    check_secret(house.api.bytes(f"/v1/songs/{song['id']}/codes"), lyrics)


def test_nothing_is_written_outside(house: Server) -> None:
    before = {path.name for path in house.folder.iterdir()}
    for title in ("../../outside", "/tmp/outside", "..\\outside", "outside\0"):
        answer = house.api.http.post("/v1/songs", json=SHORT | {"title": title})
        if answer.status_code == 202:
            song = house.api.done(answer.json()["songs"][0]["id"])["id"]
            for part in ("audio?format=mp3&download=true", "codes", "spectrogram.png"):
                house.api.bytes(f"/v1/songs/{song}/{part}")
    assert {path.name for path in house.folder.iterdir()} == before
    assert not list(house.folder.rglob("*outside*"))


def test_nobody_else_on_this_machine_may_look(house: Server) -> None:
    """What users wrote is theirs."""
    assert house.data.stat().st_mode & 0o077 == 0


def test_links_in_the_data_folder_are_not_made_by_clients(house: Server) -> None:
    until(lambda: house.api.get("/health").status_code == 200)
    assert not [path for path in house.data.rglob("*") if path.is_symlink()]
