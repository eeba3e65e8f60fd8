"""A `heartmula serve` process with a data folder of its own, and a client of its API."""

import atexit
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = os.environ.get("HEARTMULA", str(REPOSITORY / "build/release/heartmula"))
CHECKPOINT = REPOSITORY / "demo"

T = TypeVar("T")
Song = dict[str, Any]
SHORT: Song = {
    "lyrics": "[verse]\nla la la",
    "tags": "piano,happy",
    "max_audio_length_ms": 800,
    "ignore_eos": True,
    "codec_steps": 1,  # quick
}
LONG = SHORT | {"max_audio_length_ms": 160_000, "codec_steps": 10}  # is in work until it is cancelled
OVER = ("done", "failed", "cancelled")


def until(condition: Callable[[], T], patience: float = 60.0) -> T:
    """The first value of `condition()` that is true."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f"not true after {patience} s"
        time.sleep(0.02)
    return value


def tensors_of(codes: bytes) -> bytes:
    """The numbers of a safetensors file, without its description."""
    return codes[8 + int.from_bytes(codes[:8], "little") :]


def generate(folder: Path, *flags: str | Path) -> bytes:
    """The FLAC file that `heartmula generate` makes."""
    song = folder / "song.flac"
    command = [PROGRAM, "generate", "--model_path", CHECKPOINT, "--save_path", song, *flags]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return song.read_bytes()


class Api:
    """What a client asks of a server."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=url, timeout=60, headers=headers)

    def order(self, **fields: Any) -> list[Song]:
        """Asks for songs, short ones by default."""
        answer = self.http.post("/v1/songs", json=SHORT | fields)
        assert answer.status_code == 202, answer.text
        return answer.json()["songs"]

    def song(self, song: str) -> Song:
        """Where a song stands."""
        answer = self.http.get(f"/v1/songs/{song}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, song: str, *states: str, patience: float = 60.0) -> Song:
        """The song, once it is in one of these states."""
        return until(lambda: now if (now := self.song(song))["state"] in states else None, patience)

    def done(self, song: str, patience: float = 60.0) -> Song:
        """The song, once it is over; it must have been made."""
        over = self.wait(song, *OVER, patience=patience)
        assert over["state"] == "done", over["error"]
        return over

    def make(self, **fields: Any) -> Song:
        """A finished song."""
        return self.done(self.order(**fields)[0]["id"])

    def cancel(self, *songs: str) -> None:
        """Ends songs that may be in work, or gone."""
        answers = {song: self.http.post(f"/v1/songs/{song}/cancel").status_code for song in songs}
        assert set(answers.values()) <= {202, 404, 409}
        for song, answer in answers.items():
            if answer == 202:
                self.wait(song, *OVER)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Any answer."""
        return self.http.get(path, headers=headers)

    def bytes(self, path: str) -> bytes:
        """The body of a good answer."""
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.content

    def codes(self, song: str) -> bytes:
        """The numbers that a song is made of."""
        return tensors_of(self.bytes(f"/v1/songs/{song}/codes"))

    @contextmanager
    def events(self, path: str, patience: float = 30.0) -> Iterator[Iterator[tuple[str, Any]]]:
        """The events of a stream, each with its name; a comment is "" with its text."""
        with self.http.stream("GET", path, timeout=patience) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield events_of(answer.iter_lines())


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Server-Sent Events, as a browser would read them."""
    name = "message"
    data: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                yield name, json.loads("\n".join(data))
            name, data = "message", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "":
            yield "", value


class Server:
    """A running server. `data` outlives its processes: start() after kill() or stop() goes on with it."""

    def __init__(self, folder: Path, *flags: str | Path, start: bool = True) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.flags = flags
        self.process: subprocess.Popen | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if start:
            self.start()

    def start(self) -> None:
        """Returns once it listens; it may still be loading."""
        command = [PROGRAM, "serve", "--model_path", CHECKPOINT, "--port", "0", "--data_dir", self.data, *self.flags]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        atexit.register(self.process.kill)  # whatever becomes of the test
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://"), f"it does not listen: {self.log.read_text()}"
        self.url = line.removeprefix("listening on ").strip()
        self.port = int(self.url.rpartition(":")[2])
        self.api = Api(self.url)

    def ready(self) -> "Server":
        """Once songs can be made."""
        until(lambda: self.api.http.get("/ready").status_code == 200)
        return self

    def kill(self) -> None:
        """As a machine without power."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """As systemd does it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    @property
    def memory(self) -> int:
        """Bytes of the process that are in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) << 10
