"""What of a song survives the codec: a held-out song -> codes -> the C++ program's decoder -> the analyzer.

Usage: python -m heartmula_train.evaluation.codec_path --config configs/demo.toml --model_path ../demo --out RESULT.json

The quantizer that makes the codes is that of --run, or else the one beside the checkpoint. The codec that decodes them
is that of --model_path, or else what the run's stages rvq, autoencoder and flow would export. If the run has a wave
autoencoder, it stands beside the codec: the best that any flow could reach. Targets: each attribute right in 90 % of
songs, 80 % of the sung vowels, 6.5 dB.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heartmula_train.codec.distances import log_mel_distance_db
from heartmula_train.evaluation.hearing import ATTRIBUTES, agreement, hear, heard_attributes, vowel_errors
from heartmula_train.evaluation.program import Program, ProgramError, read_wav, write_codes, write_wav
from heartmula_train.evaluation.record import (
    add_program,
    command_parser,
    program_provenance,
    provenance,
    share,
    write_result,
)
from heartmula_train.music.plan import SongPlan
from heartmula_train.music.render import render
from heartmula_train.song.checkpoint import CODEC_FOLDER, save_codec
from heartmula_train.stages.autoencoder import WaveAutoencoder
from heartmula_train.stages.config import Config, read_config
from heartmula_train.stages.loop import FINAL
from heartmula_train.stages.run import assemble_codec, exported_quantizer, load_autoencoder, load_quantizer
from heartmula_train.stages.songs import held_out_plan

FIRST = 100  # the stages validate on the first few held-out songs
TARGET_SHARE, TARGET_VOWELS, TARGET_DB = 0.9, 0.8, 6.5


def log_mel_db(actual: np.ndarray, expected: np.ndarray) -> float:
    """Mean over both channels, as the training's figures; songs [2, samples], compared over the shorter one."""
    samples = min(actual.shape[1], expected.shape[1])
    return log_mel_distance_db(*(torch.from_numpy(song[:, :samples].copy()) for song in (actual, expected)))


@torch.no_grad()
def through_autoencoder(autoencoder: WaveAutoencoder, song: np.ndarray) -> np.ndarray:
    """song [2, 1920 T] -> the same through rounded latents."""
    return autoencoder(torch.from_numpy(song)).numpy()


def judge(plan: SongPlan, original: np.ndarray, decoded: np.ndarray) -> dict[str, Any]:
    """What is heard in `decoded`, whether it is the plan's, and the distance to the original."""
    heard = hear(decoded)
    return {
        "right": agreement(heard, plan),
        "heard": heard_attributes(heard),
        "vowel_errors": vowel_errors(heard, plan)[0],
        "log_mel_db": round(log_mel_db(decoded, original), 3),
    }


def totals(rows: Sequence[dict[str, Any]], path: str) -> dict[str, Any]:
    """Shares over the songs of one path, of vowels over their syllables, and the mean distance."""
    distances = [row[path]["log_mel_db"] for row in rows]
    return {
        **{name: share([row[path]["right"][name] for row in rows]) for name in ATTRIBUTES},
        "vowels": _vowels([row[path]["vowel_errors"] for row in rows], rows),
        "log_mel_db": round(float(np.mean(distances)), 3),
        "log_mel_db_worst": max(distances),
    }


def _vowels(errors: Sequence[int], rows: Sequence[dict[str, Any]]) -> float:
    return round(1 - sum(errors) / max(1, sum(row["syllables"] for row in rows)), 4)


def measure_song(
    program: Program,
    model_path: Path,
    plan: SongPlan,
    original: np.ndarray,
    codes: np.ndarray,
    autoencoder: WaveAutoencoder | None,
    folder: Path,
    number: int,
) -> dict[str, Any]:
    """Held-out song `number` [2, samples] and its codes [T, 8] -> one row of the result; files go below `folder`."""
    name = f"held-out-{number:03d}"
    codes_path, decoded_path = folder / "codes" / f"{name}.safetensors", folder / "decoded" / f"{name}.wav"
    write_codes(codes, codes_path)
    write_wav(original, folder / "original" / f"{name}.wav")
    made = program.decode(model_path, codes_path, decoded_path, number)["result"]
    heard = hear(original)
    errors, syllables = vowel_errors(heard, plan)
    row = {
        "song": number,
        "tags": plan.tags,
        "seconds": round(made["duration_s"], 2),
        "codec_real_time_factor": round(made["real_time_factor"]["codec"], 3),
        "device": made["device"],
        "syllables": syllables,
        "original_right": agreement(heard, plan),
        "original_vowel_errors": errors,
        "codec": judge(plan, original, read_wav(decoded_path)),
    }
    if autoencoder is not None:
        row["autoencoder"] = judge(plan, original, through_autoencoder(autoencoder, original))
    return row


def export_codec(config: Config, run: Path, folder: Path) -> Path:
    """A checkpoint's folder that holds nothing but the codec."""
    save_codec(assemble_codec(config, run), folder / CODEC_FOLDER, torch.bfloat16)
    return folder


def main(arguments: list[str] | None = None) -> int:
    """Command line; 1 if a target is missed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("codec_path", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="the run's configuration")
    parser.add_argument("--run", type=Path, help="the run's folder (none: everything is the checkpoint's)")
    parser.add_argument("--model_path", type=Path, help="a checkpoint to decode with (the run's stages)")
    parser.add_argument("--songs", type=int, default=24)
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first held-out song")
    parser.add_argument("--keep", type=Path, help="keep original/, codes/ and decoded/ in this folder")
    add_program(parser)
    options = parser.parse_args(arguments)
    if not options.run and not options.model_path:
        parser.error("needs --run, --model_path, or both")
    program = Program(options.program, options.threads)
    rows: list[dict[str, Any]] = []
    try:
        config = read_config(options.config)
        if options.run:
            quantizer = load_quantizer(config, options.run).eval()
        else:
            quantizer = exported_quantizer(config, options.model_path).eval()
        has_autoencoder = bool(options.run) and (options.run / "autoencoder" / FINAL).exists()
        autoencoder = load_autoencoder(config, options.run).eval() if has_autoencoder else None
        with (
            nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as folder,
            tempfile.TemporaryDirectory() as exported,
        ):
            for kind in ("original", "codes", "decoded"):
                (Path(folder) / kind).mkdir(parents=True, exist_ok=True)
            model_path = options.model_path or export_codec(config, options.run, Path(exported))
            result = {**provenance("codec_path", arguments), **program_provenance(program, model_path)}
            for number in range(options.first, options.first + options.songs):
                plan = held_out_plan(config, number)
                original = render(plan)
                codes = quantizer.encode(original).numpy()
                rows.append(measure_song(program, model_path, plan, original, codes, autoencoder, Path(folder), number))
                print(_line(rows[-1]), flush=True)
    except (ProgramError, ValueError, OSError) as error:
        print(f"codec_path: {error}", file=sys.stderr)
        return 2
    paths = ["codec", *(["autoencoder"] if has_autoencoder else [])]
    result["settings"] = {"songs_seed": config.seed, "held_out_from": options.first, "noise_seeds": "the song's number"}
    result["device"] = rows[0]["device"] if rows else ""
    result["targets"] = {"share": TARGET_SHARE, "vowels": TARGET_VOWELS, "log_mel_db": TARGET_DB}
    result["totals"] = {path: totals(rows, path) for path in paths}
    result["original_vowels"] = _vowels([row["original_vowel_errors"] for row in rows], rows)
    result["targets_met"] = targets_met(result["totals"]["codec"])
    result["songs"] = [{name: value for name, value in row.items() if name != "device"} for row in rows]
    write_result(result, options.out)
    for path in paths:
        total = result["totals"][path]
        kept = ", ".join(f"{name} {total[name]['right']} of {total[name]['of']}" for name in ATTRIBUTES)
        print(f"{path}: {kept}, vowels {100 * total['vowels']:.0f} %, log-mel {total['log_mel_db']:.2f} dB")
    return 0 if all(result["targets_met"].values()) else 1


def targets_met(total: dict[str, Any]) -> dict[str, bool]:
    """Of the codec's totals."""
    return {
        **{name: total[name]["share"] >= TARGET_SHARE for name in ATTRIBUTES},
        "vowels": total["vowels"] >= TARGET_VOWELS,
        "log_mel_db": total["log_mel_db"] <= TARGET_DB,
    }


def _line(row: dict[str, Any]) -> str:
    codec = row["codec"]
    verdicts = ", ".join(name if right else f"{name} WRONG" for name, right in codec["right"].items())
    return f"song {row['song']} ({row['tags']}, {row['seconds']:.0f} s): {verdicts}; {codec['log_mel_db']:.2f} dB"


if __name__ == "__main__":
    sys.exit(main())
