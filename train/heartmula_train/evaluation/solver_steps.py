"""How much the number of Euler steps matters: songs of few steps against those of fifty, from the same codes and noise.

Usage: python -m heartmula_train.evaluation.solver_steps --model_path ../demo --out RESULT.json

The distance to the original song does not tell step counts apart (training.md), the one to fifty steps does; other
noise, at fifty steps, is the yardstick. The C++ program makes the audio. It keeps latents to itself: the share of
levels (rounded latents) that change comes from the kit's own modules, with noise of their own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heartmula_train.codec.distances import log_mel_distance_db, si_sdr_db
from heartmula_train.codec.heartcodec import DEFAULT_GUIDANCE, HeartCodec, song_of_windows
from heartmula_train.codec.wave_decoder import round_to_levels
from heartmula_train.evaluation.plans import evaluation_plan
from heartmula_train.evaluation.program import Program, ProgramError, Sampling, read_codes, read_wav
from heartmula_train.evaluation.prompt_following import length_limit_ms
from heartmula_train.evaluation.record import add_program, command_parser, program_provenance, provenance, write_result
from heartmula_train.song.checkpoint import CODEC_FOLDER, load_codec

REFERENCE_STEPS = 50
STEPS = (5, 10, 20)
OTHER_NOISE = "other noise"
_OTHER_SEED = 1000  # added to a song's seed


def compare(actual: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Songs [2, samples]: log-mel distance in dB and SI-SDR in dB, over both channels."""
    a, b = torch.from_numpy(actual), torch.from_numpy(expected)
    return {"log_mel_db": round(log_mel_distance_db(a, b), 3), "si_sdr_db": round(si_sdr_db(a, b), 2)}


def song_levels(codec: HeartCodec, codes: Tensor, seed: int, steps: int) -> Tensor:
    """codes [T, 8] -> rounded latents [2 T, C] of the song, each frame from the first window that holds it."""
    windows = codec.latents(codes, codec.seeded_noise(seed), steps, DEFAULT_GUIDANCE)
    return round_to_levels(song_of_windows(windows, codes.shape[0]))


def levels_changed(codec: HeartCodec, codes: Tensor, seed: int) -> dict[str, float]:
    """Share of the song's levels that differ from those of fifty steps."""
    reference = song_levels(codec, codes, seed, REFERENCE_STEPS)
    others = {str(steps): song_levels(codec, codes, seed, steps) for steps in STEPS}
    others[OTHER_NOISE] = song_levels(codec, codes, seed + _OTHER_SEED, REFERENCE_STEPS)
    return {name: round(float((levels != reference).float().mean()), 4) for name, levels in others.items()}


def measure_song(program: Program, model_path: Path, codes: Path, seed: int, folder: Path) -> dict[str, dict]:
    """Of a codes file: distances of each step count, and of other noise, to fifty steps."""

    def song(seed: int, steps: int) -> np.ndarray:
        path = folder / f"{codes.name}-{seed}-{steps}.wav"
        program.decode(model_path, codes, path, seed, steps)
        samples = read_wav(path)
        path.unlink()
        return samples

    reference = song(seed, REFERENCE_STEPS)
    rows = {str(steps): compare(song(seed, steps), reference) for steps in STEPS}
    rows[OTHER_NOISE] = compare(song(seed + _OTHER_SEED, REFERENCE_STEPS), reference)
    return rows


def means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Over songs, for each step count and other noise."""
    first = rows[0]["against_reference"]
    return {
        name: {
            figure: round(float(np.mean([row["against_reference"][name][figure] for row in rows])), 4)
            for figure in first[name]
        }
        for name in first
    }


def generate_codes(program: Program, model_path: Path, number: int, folder: Path) -> Path:
    """Codes file of evaluation song `number`, made by the checkpoint itself."""
    plan = evaluation_plan(number)
    codes = folder / f"song-{number:03d}.codes.safetensors"
    wav = folder / "generated.wav"
    prompt = (plan.tags, plan.lyrics)
    program.generate(model_path, prompt, wav, number, length_limit_ms(plan), Sampling(), save_codes=codes)
    return codes


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("solver_steps", __doc__)
    parser.add_argument("--model_path", type=Path, required=True, help="the checkpoint; its codec if --codes are given")
    parser.add_argument("--songs", type=int, default=6, help="evaluation songs to make codes of")
    parser.add_argument("--codes", type=Path, nargs="+", default=[], help="codes files instead, of codec_path --keep")
    add_program(parser)
    options = parser.parse_args(arguments)
    program = Program(options.program, options.threads)
    rows: list[dict[str, Any]] = []
    try:
        result = {**provenance("solver_steps", arguments), **program_provenance(program, options.model_path)}
        codec = load_codec(options.model_path / CODEC_FOLDER)
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            for number in range(len(options.codes) or options.songs):
                path = (
                    options.codes[number]
                    if options.codes
                    else generate_codes(program, options.model_path, number, folder)
                )
                codes = read_codes(path)
                distances = measure_song(program, options.model_path, path, number, folder)
                for name, part in levels_changed(codec, torch.from_numpy(codes).long(), number).items():
                    distances[name]["levels_changed"] = part
                rows.append({"song": number, "frames": len(codes), "against_reference": distances})
                print(distances_line(f"song {number} against {REFERENCE_STEPS} steps", distances), flush=True)
    except (ProgramError, ValueError, OSError) as error:
        print(f"solver_steps: {error}", file=sys.stderr)
        return 2
    result["settings"] = {
        "reference_steps": REFERENCE_STEPS,
        "codes": "of the files given" if options.codes else "of the checkpoint's own evaluation songs",
        "seeds": f"the song's number; other noise {_OTHER_SEED} more",
        "levels_from": "the kit's modules (PyTorch), noise of their own",
    }
    result["totals"] = means(rows)
    result["songs"] = rows
    write_result(result, options.out)
    print(distances_line(f"mean against {REFERENCE_STEPS} steps", result["totals"]))
    return 0


def distances_line(name: str, distances: dict[str, dict[str, float]]) -> str:
    """For people: what each way of solving comes to."""
    parts = [
        f"{other}: {d['log_mel_db']:.2f} dB, SI-SDR {d['si_sdr_db']:.1f} dB, levels {100 * d['levels_changed']:.0f} %"
        for other, d in distances.items()
    ]
    return f"{name}: " + "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
