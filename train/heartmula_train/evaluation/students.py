"""How near a student of the flow comes: songs of its few steps against a fine solution of its teacher's flow.

Usage: python -m heartmula_train.evaluation.students --model_path ../demo --student ../demo/HeartCodec-student \
           --keep songs/fine --out RESULT.json

Codes are those of songs that nobody was trained on, from the checkpoint's quantizer. All settings start from the same
noise; the fine solution is AB2 with guidance. Beside the student stand the released setting (ten guided Euler steps)
and, as the yardstick, other noise. All by the kit's modules (PyTorch), in float32; distances as `heartmula compare`
measures them. --keep holds the fine solutions between runs.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from heartmula_train.codec.heartcodec import DEFAULT_GUIDANCE, DEFAULT_STEPS, HeartCodec, song_of_windows
from heartmula_train.evaluation.plans import evaluation_plan
from heartmula_train.evaluation.record import checkpoint_hash, command_parser, provenance, write_result
from heartmula_train.evaluation.solver_steps import OTHER_NOISE, distances_line, means
from heartmula_train.music.render import render
from heartmula_train.song.checkpoint import CODEC_FOLDER, load_codec, load_weights, write_file
from heartmula_train.stages.flow_student import FineSong, fine_solver, student_solver
from heartmula_train.stages.run import QUANTIZER
from heartmula_train.stages.rvq import FeatureQuantizer

FINE_STEPS = 50
MAX_SECONDS = 40.0
_OTHER_SEED = 1000  # added to a song's seed
_OTHER_STEPS = 16  # enough for a yardstick


def bars(results: dict[str, dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Of the demo's students: at most so many dB of log-mel."""
    wanted = {"4 steps": 0.6, "2 steps": 0.8, "1 steps": 1.1}
    return {
        name: {"log_mel_db": results[name]["log_mel_db"], "at_most": most, "met": results[name]["log_mel_db"] <= most}
        for name, most in wanted.items()
        if name in results
    }


def teacher_songs(teacher: HeartCodec, codes: Tensor, seed: int) -> dict[str, Tensor]:
    """Latents of the fine solution and of what stands beside the student."""

    def song(seed: int, steps: int) -> Tensor:
        solver = fine_solver(teacher, steps, DEFAULT_GUIDANCE)
        return song_of_windows(teacher.solved_windows(codes, teacher.seeded_noise(seed), solver), len(codes))

    released = teacher.latents(codes, teacher.seeded_noise(seed), DEFAULT_STEPS, DEFAULT_GUIDANCE)
    return {
        "codes": codes.int(),
        "fine": song(seed, FINE_STEPS),
        f"Euler {DEFAULT_STEPS}, guided": song_of_windows(released, len(codes)),
        OTHER_NOISE: song(seed + _OTHER_SEED, _OTHER_STEPS),
    }


def kept_songs(teacher: HeartCodec, quantizer: FeatureQuantizer, number: int, folder: Path) -> dict[str, Tensor]:
    """`teacher_songs` of an evaluation song, from a file if it is there."""
    path = folder / f"fine-{number:03}.safetensors"
    if not path.exists():
        codes = quantizer.encode(render(evaluation_plan(number, MAX_SECONDS)))
        songs = teacher_songs(teacher, codes, number)
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp")
        write_file(beside, {name: tensor.contiguous() for name, tensor in songs.items()})
        beside.replace(path)
    return load_file(path)


def measure_song(teacher: HeartCodec, student: HeartCodec, songs: dict[str, Tensor], seed: int) -> dict[str, dict]:
    """Distances of each number of the student's steps, and of what else there is, to the fine solution."""
    songs = dict(songs)
    codes = songs.pop("codes").long()
    fine = FineSong(teacher, codes, songs.pop("fine"))
    for steps in student.config.student_steps:
        solver = student_solver(student.flow_matching.estimator, steps)
        windows = teacher.solved_windows(codes, teacher.seeded_noise(seed), solver)
        songs[f"{steps} steps"] = song_of_windows(windows, len(codes))
    return {
        name: {figure: round(value, 4) for figure, value in fine.distances(latents).items()}
        for name, latents in songs.items()
    }


@lru_cache(maxsize=1)
def _models(model_path: Path, student_path: Path) -> tuple[HeartCodec, HeartCodec, FeatureQuantizer]:
    teacher, student = load_codec(model_path / CODEC_FOLDER), load_codec(student_path)
    if not student.config.student_steps:
        raise ValueError(f"{student_path}: config.json names no student")
    quantizer = FeatureQuantizer(teacher.config)
    load_weights(quantizer, load_file(model_path / QUANTIZER), model_path / QUANTIZER)
    return teacher, student, quantizer.eval()


def song_row(model_path: Path, student_path: Path, folder: Path, number: int) -> dict[str, Any]:
    """Of the result, for an evaluation song."""
    teacher, student, quantizer = _models(model_path, student_path)
    songs = kept_songs(teacher, quantizer, number, folder)
    found = measure_song(teacher, student, songs, number)
    return {"song": number, "frames": len(songs["codes"]), "against_reference": found}


def codec_hash(folder: Path) -> str:
    """SHA-256 over a codec's folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("students", __doc__)
    parser.add_argument("--model_path", type=Path, required=True, help="the teacher's checkpoint, with its quantizer")
    parser.add_argument("--student", type=Path, required=True, help="the student's codec folder")
    parser.add_argument("--songs", type=int, default=12)
    parser.add_argument("--first", type=int, default=0, help="number of the first evaluation song")
    parser.add_argument("--keep", type=Path, help="folder in which fine solutions stay")
    parser.add_argument("--processes", type=int, default=1, help="that measure songs side by side, a thread each")
    parser.add_argument("--out", type=Path, help="the JSON result")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    try:
        result = provenance("students", arguments)
        numbers = range(options.first, options.first + options.songs)
        with tempfile.TemporaryDirectory() as work:
            measure = partial(song_row, options.model_path, options.student, options.keep or Path(work))
            # Forked, so that nothing is loaded twice.
            with ProcessPoolExecutor(options.processes, get_context("fork")) as pool:
                for row in pool.map(measure, numbers) if options.processes > 1 else map(measure, numbers):
                    rows.append(row)
                    print(distances_line(f"song {row['song']}", row["against_reference"]), flush=True)
    except (ValueError, OSError) as error:
        print(f"students: {error}", file=sys.stderr)
        return 2
    result["checkpoint_sha256"] = checkpoint_hash(options.model_path)
    result["student_sha256"] = codec_hash(options.student)
    result["settings"] = {
        "reference": f"AB2, {FINE_STEPS} steps, guidance {DEFAULT_GUIDANCE}",
        "codes": f"evaluation songs of at most {MAX_SECONDS:g} s, quantized",
        "seeds": f"the song's number; other noise {_OTHER_SEED} more, AB2 in {_OTHER_STEPS} steps",
    }
    result["totals"] = means(rows)
    result["bars"] = bars(result["totals"])
    result["songs"] = rows
    write_result(result, options.out)
    print(distances_line("mean", result["totals"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
