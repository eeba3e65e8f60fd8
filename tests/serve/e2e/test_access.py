"""Who may call, and what each key may have."""

import subprocess
from pathlib import Path

import pytest

from conftest import StartServer
from heartmula_server import CHECKPOINT, LONG, PROGRAM, SHORT, Api, Server

ANNA = "anna-0123456789abcdef"
BERT = "bert-0123456789abcdef"


def refused_start(tmp_path: Path, *flags: str | Path) -> str:
    """What a server that does not start says."""
    command = [PROGRAM, "serve", "--model_path", CHECKPOINT, "--port", "0", "--data_dir", tmp_path / "data", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode not in (0, 139, 134)
    assert ended.stdout == ""
    return ended.stderr


def test_others_are_not_served_without_keys(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "127.evil.example", "192.0.2.1"):
        error = refused_start(tmp_path, "--host", host)
        assert "--api_key_file" in error and "--no_auth" in error, host


def test_others_are_served_if_that_is_wanted(start_server: StartServer, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(ANNA)
    open_to_all = start_server("--host", "0.0.0.0", "--no_auth")
    assert Api(f"http://127.0.0.1:{open_to_all.port}").get("/v1/limits").status_code == 200
    with_keys = start_server("--host", "0.0.0.0", "--api_key_file", keys)
    assert Api(f"http://127.0.0.1:{with_keys.port}").get("/v1/limits").status_code == 401
    assert Api(f"http://127.0.0.1:{with_keys.port}", ANNA).get("/v1/limits").status_code == 200


NO_KEYS = ["", "# none\n", "short", "anna short", "a b c-0123456789abcdef", f"../x {ANNA}"]
NO_KEYS += [f"x {ANNA}\nx {BERT}", f"x {ANNA}\ny {ANNA}"]


@pytest.mark.parametrize("content", NO_KEYS)
def test_key_files_that_cannot_be_are_refused(tmp_path: Path, content: str) -> None:
    keys = tmp_path / "keys"
    keys.write_text(content)
    error = refused_start(tmp_path, "--api_key_file", keys)
    assert str(keys) in error
    assert ANNA not in error, "no key is shown"


def test_a_key_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    assert "keys" in refused_start(tmp_path, "--api_key_file", tmp_path / "keys")


@pytest.fixture(scope="module")
def guarded(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with two keys, of which each may have 3 songs in the queue."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# who may call\nanna {ANNA}\n\nbert\t{BERT} # likewise\n")
    return start_server("--api_key_file", keys, "--key_queue", "3", "--songs_at_once", "1")


@pytest.fixture
def anna(guarded: Server) -> Api:
    return Api(guarded.url, ANNA)


@pytest.fixture
def bert(guarded: Server) -> Api:
    return Api(guarded.url, BERT)


def test_nobody_gets_anything_without_a_key(guarded: Server, anna: Api) -> None:
    song = anna.make()["id"]
    api = Api(guarded.url)
    paths = api.get("/openapi.json").json()["paths"]
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    routes += [("GET", path) for path in ("/history", "/events", "/jobs/{id}", "/audio/{id}.mp3", "/songs/liked")]
    routes += [("GET", "/download_track/{id}"), ("POST", "/generate/music"), ("DELETE", "/jobs/{id}")]
    open_routes = {"/v1/session", "/health", "/ready"}
    assert len(routes) > 25
    wrong_keys = ("", "Bearer", f"Bearer {ANNA}x", f"Bearer {ANNA[:-1]}", f"Basic {ANNA}", ANNA, "Bearer anna")
    for method, path in routes:
        if path in open_routes:
            continue
        for key in wrong_keys:
            answer = api.http.request(method, path.replace("{id}", song), headers={"Authorization": key}, json=SHORT)
            assert answer.status_code == 401, (method, path, key)
            assert song not in answer.text
    assert anna.song(song)["state"] == "done"


def test_what_is_open_tells_nothing(guarded: Server) -> None:
    api = Api(guarded.url)
    assert api.get("/health").status_code == 200
    assert api.get("/").status_code == 200
    assert api.get("/v1/session").json() == {"needs_key": True, "logged_in": False}


def test_refusals_are_the_same_for_every_wrong_key(guarded: Server) -> None:
    api = Api(guarded.url)
    answers = set()
    for key in ("x", ANNA[:-1], ANNA[:-1] + "0", ANNA.upper(), "a" * 5000):
        answer = api.get("/v1/songs", Authorization=f"Bearer {key}")
        answers.add((answer.status_code, answer.content))
    assert len(answers) == 1


def test_a_browser_logs_in_and_out(guarded: Server, anna: Api) -> None:
    song = anna.make()["id"]
    browser = Api(guarded.url)
    for wrong in ({"key": "x"}, {"key": ANNA + "x"}, {"key": ""}):
        assert browser.http.post("/v1/session", json=wrong).status_code == 401, wrong
    for wrong in ({"key": 1}, {}, {"key": ANNA, "name": "x"}):
        assert browser.http.post("/v1/session", json=wrong).status_code in (400, 401), wrong
    assert not browser.http.cookies
    answer = browser.http.post("/v1/session", json={"key": ANNA})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("heartmula_session=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert ANNA not in cookie
    assert browser.get("/v1/session").json() == {"needs_key": True, "logged_in": True}
    assert browser.song(song)["id"] == song
    assert browser.get(f"/v1/songs/{song}/audio").status_code == 200

    kept = browser.http.cookies["heartmula_session"]
    other_end = kept[:-1] + ("0" if kept[-1] != "0" else "1")
    for forged in (other_end, kept.replace("anna", "bert"), kept + "0", "anna", ".", ""):
        stranger = Api(guarded.url)
        assert stranger.get("/v1/songs", Cookie=f"heartmula_session={forged}").status_code == 401, forged
    name, end, signature = kept.rsplit(".", 2)
    later = f"{name}.{int(end) + 1}.{signature}"
    assert Api(guarded.url).get("/v1/songs", Cookie=f"heartmula_session={later}").status_code == 401

    answer = browser.http.delete("/v1/session")
    assert answer.status_code == 204
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert browser.get("/v1/songs").status_code == 401


def test_a_session_outlives_a_restart_and_ends_with_its_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"anna {ANNA}\nbert {BERT}\n")
    server = Server(tmp_path / "server", "--api_key_file", keys)
    browser = Api(server.url)
    browser.http.post("/v1/session", json={"key": ANNA})
    kept = browser.http.cookies["heartmula_session"]
    server.stop()
    server.start()
    assert server.api.get("/v1/songs", Cookie=f"heartmula_session={kept}").status_code == 200
    server.stop()
    keys.write_text(f"bert {BERT}\n")
    server.start()
    assert server.api.get("/v1/songs", Cookie=f"heartmula_session={kept}").status_code == 401
    assert server.stop() == 0


def test_nobody_sees_the_songs_of_another(anna: Api, bert: Api) -> None:
    title = "only anna knows"
    song = anna.make(title=title)["id"]
    anna.http.patch(f"/v1/songs/{song}", json={"favourite": True})
    paths = bert.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        if "{id}" not in path:
            continue
        for method in methods:
            answer = bert.http.request(method, path.replace("{id}", song), json={} if method == "patch" else None)
            assert answer.status_code == 404, (method, path)
    for path in ("/jobs/{id}", "/audio/{id}.mp3", "/download_track/{id}"):
        assert bert.get(path.replace("{id}", song)).status_code == 404, path
    assert bert.http.delete(f"/jobs/{song}").status_code == 404
    assert bert.http.post(f"/songs/{song}/like").status_code == 404
    assert bert.http.delete(f"/songs/{song}/like").status_code == 404
    for order in ({"begin": {"song": song}}, {"begin": {"song": song, "to_ms": 80}}):
        assert bert.http.post("/v1/songs", json=SHORT | order).status_code == 404
    assert bert.http.post("/generate/music", json={"prompt": "x", "parent_job_id": song}).status_code == 404
    for path in ("/v1/songs", f"/v1/songs?set={song}", "/v1/songs?search=anna", "/history", "/songs/liked", "/metrics"):
        answer = bert.get(path)
        assert answer.status_code == 200
        assert song not in answer.text and title not in answer.text, path
    assert anna.song(song)["favourite"] is True


def test_nobody_hears_of_the_songs_of_another(anna: Api, bert: Api) -> None:
    with bert.events("/v1/events") as native, bert.events("/events") as studio:
        assert next(native)[0] == "hello"
        deleted = anna.make()["id"]
        anna.http.delete(f"/v1/songs/{deleted}")
        hers = anna.make()["id"]
        his = bert.order()[0]["id"]
        for events in (native, studio):
            for name, data in events:
                song = data.get("id") or data.get("job_id")
                # An id alone is told of what is gone.
                assert song == his or (name == "deleted" and song == deleted), (name, data)
                if data.get("state") == "done" or data.get("status") == "completed":
                    break
    assert hers != his


def test_a_key_may_have_so_many_songs_in_the_queue(anna: Api, bert: Api) -> None:
    running = anna.order(**LONG)[0]["id"]
    anna.wait(running, "running")
    waiting = [song["id"] for song in anna.order(songs=3)]
    answer = anna.http.post("/v1/songs", json=SHORT)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert anna.get("/v1/limits").json()["queue_per_key"] == 3
    his = bert.order()[0]["id"]
    anna.cancel(*waiting, running)
    assert bert.done(his)


def test_a_key_may_have_so_many_seconds_an_hour(start_server: StartServer, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"anna {ANNA}\nbert {BERT}\n")
    server = start_server("--api_key_file", keys, "--key_seconds_per_hour", "2")
    anna, bert = Api(server.url, ANNA), Api(server.url, BERT)
    assert anna.get("/v1/limits").json()["seconds_per_hour"] == 2
    first = anna.make()["id"]
    assert anna.http.delete(f"/v1/songs/{first}").status_code == 204
    anna.make()
    answer = anna.http.post("/v1/songs", json=SHORT)
    assert answer.status_code == 429, "what was deleted counts, too"
    assert int(answer.headers["retry-after"]) > 0
    assert bert.make()


def test_what_users_say_is_not_logged(start_server: StartServer, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"anna {ANNA}\n")
    order = SHORT | {"lyrics": "[verse]\nquiet words", "title": "quiet title"}
    quiet = start_server("--api_key_file", keys)
    Api(quiet.url, ANNA).make(**order)
    Api(quiet.url).get("/v1/songs?search=quiet+words")
    log = quiet.log.read_text()
    for secret in ("quiet", ANNA):
        assert secret not in log
    loud = start_server("--api_key_file", keys, "--log_requests")
    api = Api(loud.url, ANNA)
    api.make(**order)
    forged = b'{"lyrics":\n"heartmula: forged \x1b[31m"}'
    api.http.post("/v1/lint", content=forged, headers={"Content-Type": "application/json"})
    log = loud.log.read_text()
    assert "quiet words" in log
    assert "forged" in log
    assert "anna POST /v1/songs 202" in log
    assert ANNA not in log, "never a key"
    api.http.post("/v1/session", json={"key": ANNA})
    assert ANNA not in loud.log.read_text(), "not even of a browser that logs in"
    assert "\x1b" not in log
    assert all(not line.startswith('"heartmula') for line in log.splitlines())
