"""Times pieces of the models by our operations beside ONNX Runtime, MNN, ExecuTorch and PyTorch.

In each round every runtime computes the piece once, in turn, so that all see the same minutes of the machine and none
finds its weights in a cache. What counts is the median. Each output is compared with PyTorch's in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from pieces import PIECES, make
from runtimes import RUNTIMES

OURS = "ours"
BOUNDS = {"f32": 1e-4, "bf16": 0.05}  # of the error, relative to all that a piece adds to its input
SURELY_F32 = 1e-4  # an error that bf16 cannot have
LOAD_S = 900.0  # longest wait for a model to be exported and loaded
RUN_S = 30.0  # and for its first output
PATIENCE_S = 20.0  # then a slow runtime rests, once it has run three times
PAUSE_S = 0.1  # between runs: threads that spin go to sleep
IDLE = 0.9  # of the processors, in a pause, makes a machine quiet


@dataclass
class Result:
    """One runtime on one piece."""

    piece: str
    weights: str
    runtime: str
    error: float | None = None
    failure: str | None = None
    device: str | None = None  # as the runtime calls it
    times_ms: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float | None:
        """Nothing if it never ran."""
        return statistics.median(self.times_ms) if self.times_ms else None


class Quiet:
    """Pauses until nobody else uses the machine, `patience_s` longer than needed in all."""

    def __init__(self, patience_s: float) -> None:
        self._left_s = patience_s
        self.pauses, self.quiet = 0, 0

    def pause(self) -> None:
        """Before a run."""
        self.pauses += 1
        while True:
            before = self._idle_s()
            time.sleep(PAUSE_S)
            if self._idle_s() - before >= IDLE * PAUSE_S * os.cpu_count():
                self.quiet += 1
                return
            self._left_s -= PAUSE_S
            if self._left_s < 0:
                return

    @staticmethod
    def _idle_s() -> float:
        with open("/proc/stat") as file:
            fields = file.readline().split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A process that computes a piece when it is told to."""

    def __init__(self, command: list[str], result: Result, out: Path, log: Path) -> None:
        self.result, self.out = result, out
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, bufsize=1
            )
        what_for = {"loaded": "export", "ready": "one run"}
        for expected, limit_s in (("loaded", LOAD_S), ("ready", RUN_S)):
            answer = self._answer(limit_s)
            if answer is None:
                result.failure = f"{what_for[expected]} takes longer than {limit_s:.0f} s"
            elif not answer.startswith(expected):
                reason = answer.removeprefix("failed ").strip()
                result.failure = reason or f"ended with {self._process.wait()}: {_last_line(log)}"
            elif what := answer.removeprefix(expected).strip():
                result.device = what
            if result.failure:
                break

    def _answer(self, limit_s: float) -> str | None:
        ready, _, _ = select.select([self._process.stdout], [], [], limit_s)
        return self._process.stdout.readline() if ready else None

    def run(self, quiet: Quiet) -> None:
        """Once more."""
        times = self.result.times_ms
        if self.result.failure or (len(times) >= 3 and sum(times) > 1e3 * PATIENCE_S):
            return
        quiet.pause()
        self._process.stdin.write("run\n")
        answer = self._answer(RUN_S)
        if not answer:
            self.result.failure = "did not end while it was timed"
            return
        times.append(float(answer))

    def end(self) -> None:
        """Its memory is free when this returns."""
        if self.result.failure:
            self._process.kill()
        self._process.stdin.close()
        self._process.wait()


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def measure(piece_name: str, weights: str, program: str, folder: Path, rounds: int, quiet: Quiet) -> list[Result]:
    """All runtimes on one piece."""
    folder = folder / piece_name.replace(" ", "_").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    piece = make(piece_name)
    save_file(piece.ours, folder / "piece.safetensors")
    reference = piece.rows(piece.module(**piece.inputs)).numpy()
    base = piece.rows(piece.inputs["x"]).numpy() if piece.residual else np.zeros(1, np.float32)
    del piece
    workers = []
    for name in (OURS, *RUNTIMES):
        out = folder / f"{name.replace(' ', '_')}.{'safetensors' if name == OURS else 'npy'}"
        log = out.with_suffix(f".{weights}.log")
        if name == OURS:
            command = [program, str(folder / "piece.safetensors"), weights, str(out)]
        else:
            worker = str(Path(__file__).parent / "worker.py")
            command = [sys.executable, worker, name, piece_name, weights, str(folder), str(out)]
        worker = Worker(command, Result(piece_name, weights, name), out, log)
        workers.append(worker)
        if not worker.result.failure:
            computed = load_file(out)["out"] if name == OURS else np.load(out)
            worker.result.error = float(np.linalg.norm(computed - reference) / np.linalg.norm(reference - base))
            worker.result.failure = _objection(worker.result.error, weights)
    for turn in range(rounds):
        for index in range(len(workers)):
            workers[(turn + index) % len(workers)].run(quiet)
    for worker in workers:
        worker.end()
    return [worker.result for worker in workers]


def _objection(error: float, weights: str) -> str | None:
    if not error <= BOUNDS[weights]:
        return f"its output is wrong: error {error:.1e}"
    if weights == "bf16" and error < SURELY_F32:
        return "takes the setting and computes in float32, by its errors"
    return None


def table(results: Iterable[Result]) -> str:
    """Markdown: milliseconds, and how many times ours; why there are none, below."""
    rows: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        rows.setdefault((result.piece, result.weights), {})[result.runtime] = result
    notes: list[str] = []
    lines = ["| piece | weights | " + " | ".join((OURS, *RUNTIMES)) + " |", "|---|---|" + "---|" * (1 + len(RUNTIMES))]
    for (piece, weights), by_name in rows.items():
        ours = by_name[OURS].median_ms
        cells = [_cell(by_name[name], ours, notes) for name in (OURS, *RUNTIMES)]
        lines.append(f"| {piece} | {weights} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))])


def _cell(result: Result, ours: float | None, notes: list[str]) -> str:
    if result.failure:
        failure = result.failure.split(" with node name")[0].split(" : ")[-1]
        note = f"{result.runtime}, {result.weights}: {failure}"
        if note not in notes:
            notes.append(note)
        return f"({notes.index(note) + 1})"
    times = "" if result.runtime == OURS or not ours else f", {result.median_ms / ours:.2f}"
    milliseconds = f"{result.median_ms:#.3g}" if result.median_ms < 100 else f"{result.median_ms:.0f}"
    return f"{milliseconds} ms{times}"


def errors(results: list[Result]) -> str:
    """The greatest error of each runtime."""
    parts = []
    for weights in BOUNDS:
        for name in (OURS, *RUNTIMES):
            found = [r.error for r in results if r.runtime == name and r.weights == weights and not r.failure]
            if found:
                parts.append(f"{name} {weights} {max(found):.1e}")
    return "Greatest errors: " + ", ".join(parts)


def main() -> None:
    """Measures, prints the table, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="peers_ours")
    parser.add_argument("--folder", type=Path, required=True, help="for models and logs")
    parser.add_argument("--pieces", nargs="+", default=list(PIECES), choices=list(PIECES), metavar="PIECE")
    parser.add_argument("--weights", nargs="+", default=list(BOUNDS), choices=list(BOUNDS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="the first of the processors that may be used; default all")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet machine, in all")
    parser.add_argument("--json", type=Path, help="results, each run's time included")
    arguments = parser.parse_args()
    if arguments.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    torch.set_grad_enabled(False)
    results, quiet = [], Quiet(arguments.patience)
    for piece in arguments.pieces:
        for weights in arguments.weights:
            found = measure(piece, weights, arguments.program, arguments.folder, arguments.rounds, quiet)
            results += found
            for result in found:
                print(_line(result), file=sys.stderr, flush=True)
            if arguments.json:
                content = [{**asdict(result), "median_ms": result.median_ms} for result in results]
                arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    threads = f"{len(os.sched_getaffinity(0))} threads, {quiet.quiet} of {quiet.pauses} runs began on a quiet machine"
    print(f"{threads}\n\n{table(results)}\n\n{errors(results)}")


def _line(result: Result) -> str:
    what = result.failure or f"{result.median_ms:.2f} ms ({min(result.times_ms):.2f} to {max(result.times_ms):.2f})"
    return f"{result.piece}, {result.weights}, {result.runtime}: {what}, error {result.error}"


if __name__ == "__main__":
    main()
