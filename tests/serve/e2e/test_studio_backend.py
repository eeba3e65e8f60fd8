"""HeartMuLa-Studio's page on this server: recorded exchanges, asked again (studio_backend/README.md)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from heartmula_server import Api, until

RECORDED = sorted((Path(__file__).parent / "studio_backend").glob("*.json"))
KINDS = {
    "text": lambda value: isinstance(value, str) and value != "",
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "time": lambda value: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?", value) is not None,
}


def check(found: Any, wanted: Any, where: str) -> None:
    """Everything that is wanted is there."""
    if isinstance(wanted, str) and wanted.startswith("?"):
        assert any(KINDS[kind](found) for kind in wanted[1:].split("|")), f"{where} is {found!r}, not {wanted}"
    elif isinstance(wanted, dict) and "?each" in wanted:
        assert isinstance(found, list), where
        for i, each in enumerate(found):
            check(each, wanted["?each"], f"{where}[{i}]")
    elif isinstance(wanted, dict):
        assert isinstance(found, dict), where
        for name, value in wanted.items():
            assert name in found, f"{where}.{name} is missing"
            check(found[name], value, f"{where}.{name}")
    elif isinstance(wanted, list):
        assert isinstance(found, list) and len(found) == len(wanted), f"{where} is {found!r}, not {wanted}"
        for i, (each, value) in enumerate(zip(found, wanted, strict=True)):
            check(each, value, f"{where}[{i}]")
    else:
        assert found == wanted, where


def with_names(value: Any, names: dict[str, str]) -> Any:
    """The value, with {name} replaced."""
    text = json.dumps(value)
    for name, kept in names.items():
        text = text.replace("{" + name + "}", kept)
    return json.loads(text)


@pytest.fixture(scope="module")
def studio(start_server: StartServer) -> Api:
    return start_server("--codec_steps", "1").api


@pytest.fixture(scope="module")
def slow_studio(start_server: StartServer) -> Api:
    """Where a song is in work for long enough to be cancelled."""
    return start_server("--codec_steps", "300").api


def exchange(api: Api, step: dict[str, Any], where: str) -> Any:
    """Asks what was recorded; the answer, checked."""
    method, path = step["request"]

    def ask() -> Any:
        answer = api.http.request(method, path, json=step.get("body"))
        assert answer.status_code == step.get("status", 200), f"{where}: {answer.text}"
        if "until" not in step:
            return answer
        now, wanted = answer.json(), step["until"]
        is_there = now == wanted if isinstance(wanted, list) else wanted.items() <= now.items()
        return answer if is_there else None

    answer = until(ask)
    if "type" in step:
        assert answer.headers["content-type"] == step["type"], where
        assert answer.content
    if "answer" in step:
        check(answer.json(), step["answer"], where)
    return answer


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
def test_the_page_gets_what_it_reads(studio: Api, slow_studio: Api, recorded: Path) -> None:
    api = slow_studio if recorded.stem.startswith("in_work") else studio
    names: dict[str, str] = {}
    for recorded_step in json.loads(recorded.read_text()):
        step = with_names(recorded_step, names)
        answer = exchange(api, step, " ".join(step["request"]))
        for name, field in step.get("keep", {}).items():
            names[name] = answer.json()[field]


def test_what_goes_on_is_longer_by_what_was_asked_for(studio: Api) -> None:
    order = {"prompt": "x", "tags": "piano", "duration_ms": 2000, "cfg_scale": 1.5, "style_influence": 100}
    parent = studio.done(studio.http.post("/generate/music", json=order).json()["job_id"])
    longer = studio.http.post("/generate/music", json=order | {"parent_job_id": parent["id"]}).json()["job_id"]
    assert studio.song(longer)["max_frames"] >= parent["frames"] + 25


def test_the_page_hears_of_its_songs(studio: Api) -> None:
    order = {"prompt": "heard of", "tags": "piano", "duration_ms": 12000, "cfg_scale": 1.5, "style_influence": 100}
    seen: list[tuple[str, dict[str, Any]]] = []
    with studio.events("/events") as events:
        job = studio.http.post("/generate/music", json=order).json()["job_id"]
        for name, data in events:
            if not name or data["job_id"] != job:
                continue
            seen.append((name, data))
            if (name, data.get("status")) == ("job_update", "completed"):
                break
    updates = [data["status"] for name, data in seen if name == "job_update"]
    assert updates[-1] == "completed" and "processing" in updates
    assert seen[-1][1]["audio_path"] == f"/audio/{job}.mp3"
    assert seen[-1][1]["title"] == "heard of"
    progress = [data for name, data in seen if name == "job_progress"]
    assert progress, "it shows how far the song is"
    for data in progress:
        assert 0 <= data["progress"] <= 100
        assert isinstance(data["msg"], str)
    for name, data in seen:
        if name == "job_queued":
            assert data["position"] >= 1


def test_the_page_is_told_why_a_song_failed(slow_studio: Api) -> None:
    """It says "Generation Failed: " and the error."""
    order = {"prompt": "x", "tags": "piano", "duration_ms": 160000, "cfg_scale": 1.5, "style_influence": 100}
    with slow_studio.events("/events") as events:
        job = slow_studio.http.post("/generate/music", json=order).json()["job_id"]
        slow_studio.http.post(f"/jobs/{job}/cancel")
        for name, data in events:
            if name == "job_update" and data["job_id"] == job and data["status"] == "failed":
                assert data["error"] == "Cancelled by user"
                break
