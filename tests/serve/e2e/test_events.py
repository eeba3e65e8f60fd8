"""Server-Sent Events: what happens to songs, as it happens."""

from typing import Any

import pytest

from conftest import StartServer
from heartmula_server import LONG, SHORT, Api, Song


def test_a_song_tells_of_every_state_and_ends(api: Api) -> None:
    others = [song["id"] for song in api.order(songs=9, **LONG)]
    song = api.order(max_audio_length_ms=12_000, codec_steps=10)[0]["id"]
    states: list[str] = []
    news: list[Song] = []
    with api.events(f"/v1/songs/{song}/events") as events:
        for name, now in events:
            assert name == "song"
            assert now["id"] == song
            if not news:
                api.cancel(*others)
            news.append(now)
            if not states or states[-1] != now["state"]:
                states.append(now["state"])
    assert states == ["queued", "running", "done"]
    for now in news:
        assert "request" not in now
        assert now["result"] is None if "result" in now else True
    places = [now["place"] for now in news if now["state"] == "queued"]
    assert places == sorted(places, reverse=True)
    assert places[0] > 0
    frames = [now["frames"] for now in news]
    assert frames == sorted(frames)
    assert len(set(frames)) >= 3, "it tells of frames while they are made"
    progress = [now["progress"] for now in news]
    assert progress == sorted(progress)
    assert {"frames", "codec"} <= {now["stage"] for now in news}
    assert any(now["seconds_left"] for now in news if now["state"] == "running")
    assert news[-1]["duration"] == api.song(song)["duration"]


def test_a_finished_song_says_so_and_ends(api: Api, finished: Song) -> None:
    with api.events(f"/v1/songs/{finished['id']}/events") as events:
        assert [now["state"] for _, now in events] == ["done"]


def test_a_cancelled_song_ends_its_events(api: Api, song_in_work: Song) -> None:
    with api.events(f"/v1/songs/{song_in_work['id']}/events") as events:
        assert next(events)[1]["state"] == "running"
        api.cancel(song_in_work["id"])
        assert [now["state"] for _, now in events][-1] == "cancelled"


def follow(events: Any, until: Any) -> list[tuple[str, Any]]:
    """All events up to the first for which `until` holds."""
    seen = []
    for event in events:
        seen.append(event)
        if until(*event):
            return seen
    raise AssertionError("the stream ended")


def test_all_songs_are_told_of(api: Api) -> None:
    with api.events("/v1/events") as events:
        name, hello = next(events)
        assert name == "hello"
        assert hello["version"] == api.get("/health").json()["version"]
        song = api.order(max_audio_length_ms=12_000)[0]["id"]  # not made between two events
        seen = follow(events, lambda name, now: name == "song" and now["id"] == song and now["state"] == "done")
        assert next(now["state"] for name, now in seen if name == "song" and now["id"] == song) != "done"
        api.http.patch(f"/v1/songs/{song}", json={"title": "new"})
        follow(events, lambda _, now: now["id"] == song and now["title"] == "new")
        api.http.patch(f"/v1/songs/{song}", json={"favourite": True})
        follow(events, lambda _, now: now["id"] == song and now["favourite"])
        api.http.delete(f"/v1/songs/{song}")
        assert follow(events, lambda name, _: name == "deleted")[-1][1] == {"id": song}


def test_who_waits_is_told_when_the_queue_moves(api: Api) -> None:
    running = [song["id"] for song in api.order(songs=api.get("/v1/limits").json()["songs_at_once"], **LONG)]
    for song in running:
        api.wait(song, "running")
    first, second = (api.order(**LONG)[0]["id"] for _ in range(2))
    with api.events(f"/v1/songs/{second}/events") as events:
        assert next(events)[1]["place"] == 1
        assert api.http.post(f"/v1/songs/{first}/cancel").status_code == 202
        assert follow(events, lambda _, now: now["place"] == 0)
        assert api.http.post(f"/v1/songs/{second}/cancel").status_code == 202
        assert [now["state"] for _, now in events][-1] == "cancelled"
    api.cancel(*running)


@pytest.mark.slow
def test_a_silent_stream_is_kept_alive(start_server: StartServer) -> None:
    """By a comment every 15 seconds, for proxies."""
    with start_server().api.events("/v1/events") as events:
        assert next(events)[0] == "hello"
        assert next(events)[0] == ""


def test_whoever_leaves_leaves_nothing_behind(api: Api) -> None:
    """Streams that clients have left do not keep connections."""
    for _ in range(20):
        with api.events("/v1/events") as events:
            next(events)
    assert api.http.post("/v1/songs", json=SHORT).status_code == 202
