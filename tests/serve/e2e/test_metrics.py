"""Figures for Prometheus, read by its own client."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from conftest import StartServer
from heartmula_server import LONG, Api, tensors_of, until


def metrics(api: Api) -> dict[tuple[str, frozenset], float]:
    """Each sample by its name and labels."""
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.documentation for family in families), "each has a help text"
    assert all(family.type in ("counter", "gauge", "histogram") for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def labels(**values: str) -> frozenset:
    return frozenset(values.items())


def test_figures_follow_what_happens(start_server: StartServer) -> None:
    api = start_server("--songs_at_once", "1").api
    before = metrics(api)
    assert before["heartmula_frames_total", labels()] == 0
    assert before["heartmula_jobs", labels(state="done")] == 0
    assert before["heartmula_resident_memory_bytes", labels()] > 1e6

    for _ in range(2):
        api.make()
    assert api.get("/v1/songs/nothing").status_code == 404
    after = metrics(api)
    assert after["heartmula_frames_total", labels()] == 22
    assert after["heartmula_songs_total", labels(state="done")] == 2
    assert abs(after["heartmula_audio_seconds_total", labels()] - 1.76) < 1e-9
    assert after["heartmula_jobs", labels(state="done")] == 2
    assert after["heartmula_http_requests_total", labels(method="POST", route="/v1/songs", status="202")] == 2
    assert after["heartmula_http_requests_total", labels(method="GET", route="/v1/songs/{id}", status="404")] == 1
    for histogram in ("heartmula_first_audio_seconds", "heartmula_real_time_factor"):
        assert before[f"{histogram}_count", labels()] == 0
        assert after[f"{histogram}_count", labels()] == 2
        assert after[f"{histogram}_bucket", labels(le="+Inf")] == 2
        buckets = [(float(dict(label)["le"]), n) for (name, label), n in after.items() if name == f"{histogram}_bucket"]
        counts = [count for _, count in sorted(buckets)]
        assert counts == sorted(counts)
        assert 0 < after[f"{histogram}_sum", labels()] < 120

    running, waiting = (api.order(**LONG)[0]["id"] for _ in range(2))
    api.wait(running, "running")
    busy = metrics(api)
    assert busy["heartmula_jobs", labels(state="running")] == 1
    assert busy["heartmula_jobs", labels(state="queued")] == 1
    api.cancel(waiting, running)
    over = metrics(api)
    assert over["heartmula_jobs", labels(state="cancelled")] == 2
    assert over["heartmula_jobs", labels(state="running")] == 0


def test_what_clients_call_makes_no_new_figures(api: Api) -> None:
    """Names of routes, never of paths: a scanner must not fill the memory."""
    for i in range(20):
        api.get(f"/nothing/{i}")
        api.get(f"/v1/songs/unknown{i}")
    assert len(metrics(api)) < 400
    assert not any("nothing" in str(labels) or "unknown" in str(labels) for _, labels in metrics(api))


def test_songs_that_rest_are_seen_and_the_same(start_server: StartServer, tmp_path: Path) -> None:
    length = ("--max_audio_length_ms", "40000")
    api = start_server("--songs_at_once", "4", "--kv_memory_mb", "1", "--kv_swap", tmp_path, *length).api
    long = {"ignore_eos": True, "max_audio_length_ms": 40000}
    songs = [api.order(seed=seed, **long)[0]["id"] for seed in range(1, 5)]
    seen = until(lambda: [song for song in songs if api.song(song).get("stage") == "resting"])
    while_it_rests = metrics(api)
    assert while_it_rests["heartmula_kv_pages", labels(state="used")] > 0
    codes = []
    for song in songs:
        api.done(song, patience=120)
        codes.append(api.codes(song))
    after = metrics(api)
    assert after["heartmula_songs_resting", labels()] == 0
    assert after["heartmula_kv_pages", labels(state="used")] == 0
    assert api.song(seen[0])["result"]["rests"] > 0
    assert not list(tmp_path.iterdir())

    alone = start_server("--songs_at_once", "1", *length).api
    assert tensors_of(alone.codes(alone.make(seed=4, **long)["id"])) == tensors_of(codes[3])
