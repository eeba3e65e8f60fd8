#!/usr/bin/env python3
"""A day in the life of `heartmula serve`, in minutes: nothing may be lost, no song may differ, memory must stay flat.

    tests/soak/soak.py build/release/heartmula [--model_path demo] [--songs 100] [--batches 200] [--streams 500]

Needs nothing but Python. Prints its figures as JSON; results.json beside it holds those of a committed run. Exits with 1
if something was lost or differs, or if memory grows by more than 2 percent.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

LENGTH_MS = 4000
FLAT = 1.02


class Server:
    """One that can be stopped and killed, and started again on the same data."""

    def __init__(self, program, model_path, data_dir):
        self.command = [program, "serve", "--model_path", model_path, "--port", "0", "--data_dir", str(data_dir)]
        self.log = open(data_dir / "server.log", "a")  # noqa: SIM115, as long as the server
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://"):
            raise SystemExit(f"the server did not start: {line!r}, see {self.log.name}")
        self.port = int(line.rsplit(":", 1)[1])

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(60)

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise SystemExit("the system does not say how much memory the server has")

    def ask(self, method, path, body=None):
        """The JSON that is answered; asks again while nobody is there."""
        for _ in range(600):
            try:
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
                    text = None if body is None else json.dumps(body)
                    connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
                    answer = connection.getresponse()
                    data = answer.read()
                if answer.status not in (429, 503):
                    if answer.status >= 400:
                        raise SystemExit(f"{method} {path}: {answer.status} {data[:300]}")
                    return data
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"{method} {path}: nobody answers")

    def order(self, seed):
        song = {"lyrics": "[verse]\nla la la\n", "tags": "fast,happy,rock,guitar", "max_audio_length_ms": LENGTH_MS}
        return json.loads(self.ask("POST", "/v1/songs", {**song, "seed": seed}))["songs"][0]["id"]

    def state(self, song):
        return json.loads(self.ask("GET", f"/v1/songs/{song}"))["state"]

    def wait(self, songs):
        """Their last states."""
        states = {}
        while len(states) < len(songs):
            for song in songs:
                if song not in states and (state := self.state(song)) not in ("queued", "running"):
                    states[song] = state
            time.sleep(0.05)
        return states

    def digest(self, song):
        codes = self.ask("GET", f"/v1/songs/{song}/codes")
        audio = self.ask("GET", f"/v1/songs/{song}/audio?format=wav")
        return hashlib.sha256(codes[-1600:] + audio[44:]).hexdigest()


class IdleStreams:
    """Event streams that nobody ends, from sockets that read nothing."""

    def __init__(self, server, count):
        self.sockets = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.sockets.append(connection)

    def alive(self):
        alive = 0
        for connection in self.sockets:
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                alive += connection.recv(12) == b"HTTP/1.1 200"
        return alive

    def close(self):
        for connection in self.sockets:
            connection.close()


def vanish(server, songs, stop, chance):
    """Clients that begin to read something and are gone."""
    while not stop.is_set():
        song = chance.choice(songs)
        path = chance.choice([f"/v1/songs/{song}/stream", f"/v1/songs/{song}/events", "/v1/events", "/v1/songs"])
        with contextlib.suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            connection.recv(chance.choice([1, 100, 100000]))
            connection.close()
        time.sleep(chance.uniform(0, 0.05))


def one_after_another(server, count):
    digests, memory = {}, []
    for number in range(count):
        song = server.order(number)
        if server.wait([song])[song] != "done":
            raise SystemExit(f"song {number} was not made")
        digests[number] = server.digest(song)
        memory.append(server.resident_bytes())
    return digests, memory


def in_batches(server, count, alone, chance):
    """Batches of all sizes, beside clients that vanish, stops and kills."""
    begun = time.monotonic()
    songs, kills, stops = {}, 0, 0
    number = 0
    while number < count:
        batch = {}
        for _ in range(min(chance.choice([1, 2, 5, 12, 20]), count - number)):
            batch[server.order(number % len(alone))] = number % len(alone)
            number += 1
        songs.update(batch)
        stop = threading.Event()
        client = threading.Thread(target=vanish, args=(server, list(batch), stop, random.Random(number)))
        client.start()
        what = chance.random()
        if what < 0.6:
            time.sleep(chance.uniform(0, 1.5))
            kills, stops = (kills + 1, stops) if what < 0.4 else (kills, stops + 1)
            server.end(signal.SIGKILL if what < 0.4 else signal.SIGTERM)
            server.start()
        server.wait(list(batch))
        stop.set()
        client.join()
    states = server.wait(list(songs))
    lost = [song for song, state in states.items() if state != "done"]
    different = [song for song, seed in songs.items() if song not in lost and server.digest(song) != alone[seed]]
    return {
        "songs": len(songs),
        "kills": kills,
        "stops": stops,
        "lost": len(lost),
        "different": len(different),
        "seconds": round(time.monotonic() - begun, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--model_path", default="demo")
    parser.add_argument("--songs", type=int, default=100, help="one after another")
    parser.add_argument("--batches", type=int, default=200, help="songs in batches")
    parser.add_argument("--streams", type=int, default=500)
    options = parser.parse_args()
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.program, options.model_path, pathlib.Path(folder))
        streams = IdleStreams(server, options.streams)
        alone, memory = one_after_another(server, options.songs)
        settled = memory[len(memory) // 5]  # buffers and caches have their size by then
        report = {
            "one_after_another": {
                "songs": len(alone),
                "idle_streams_alive": streams.alive(),
                "resident_mb": {"settled": settled / 1e6, "end": memory[-1] / 1e6, "most": max(memory) / 1e6},
                "growth": memory[-1] / settled,
            }
        }
        streams.close()
        report["in_batches"] = in_batches(server, options.batches, alone, chance)
        server.end()
    print(json.dumps(report, indent=2))
    batches = report["in_batches"]
    is_flat = report["one_after_another"]["growth"] <= FLAT
    all_alive = report["one_after_another"]["idle_streams_alive"] == options.streams
    return 0 if is_flat and all_alive and not batches["lost"] and not batches["different"] else 1


if __name__ == "__main__":
    sys.exit(main())
