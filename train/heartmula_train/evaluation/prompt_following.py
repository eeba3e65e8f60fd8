"""Whether songs follow their tags and lyrics: the C++ program makes them, the analyzer hears them.

Usage: python -m heartmula_train.evaluation.prompt_following --model_path ../demo --songs 60 --out RESULT.json

Right is: the tempo class, the mode and the drums that the tags name; and the ending: the language model ends the song
itself, less than two bars and at most a quarter of the length from where the plan does. Two bars are one line of the
lyrics, so a song with a line too few or too many is wrong, and a last chord that rings a bar longer is not; the quarter
matters where the whole song has fewer than eight bars. How many vowels are sung as written is for information.

One number for a few songs, whose audio differs between instruction sets: --require sum=11 of four songs and four
outcomes each. Songs at random reach about 5.5 (deviation 1.8), those of a model that is right in 90 % reach 14.4
(deviation 1.2).
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heartmula_train.evaluation.hearing import ATTRIBUTES, agreement, hear, heard_attributes, vowel_errors
from heartmula_train.evaluation.plans import EVALUATION_SEED, MAX_SECONDS, evaluation_plan
from heartmula_train.evaluation.program import Program, ProgramError, Sampling, read_wav
from heartmula_train.evaluation.record import (
    add_program,
    add_sampling,
    command_parser,
    program_provenance,
    provenance,
    sampling_of,
    share,
    write_result,
)
from heartmula_train.music.plan import BARS_PER_LINE, BEAT_CODES, SongPlan
from heartmula_train.song.frame_loop import FRAME_MS

OUTCOMES = (*ATTRIBUTES, "ending")
ENDING_BARS = float(BARS_PER_LINE)
ENDING_PART = 0.25
_LIMIT = 1.5  # of the plan's length; a song that goes on has missed its end by then


def ending_agrees(frames: int, stop_reason: str, plan: SongPlan) -> bool:
    """Whether a song of `frames` code frames ended by itself where its lyrics do."""
    is_near = abs(bars_too_long(frames, plan)) < ENDING_BARS and abs(frames / plan.codes - 1) <= ENDING_PART
    return stop_reason == "eos" and is_near


def bars_too_long(frames: int, plan: SongPlan) -> float:
    """Bars beyond the plan's length; negative: too short."""
    return (frames - plan.codes) / (plan.beats_per_bar * BEAT_CODES[plan.tempo])


def length_limit_ms(plan: SongPlan) -> int:
    """When a song is cut off: half as long again, and at least four bars more."""
    bar = plan.beats_per_bar * BEAT_CODES[plan.tempo]
    return FRAME_MS * max(round(_LIMIT * plan.codes), plan.codes + 4 * bar)


def measure_song(
    program: Program, model_path: Path, number: int, max_seconds: float, sampling: Sampling, folder: Path
) -> dict[str, Any]:
    """Makes song `number` in `folder` and hears it: one row of the result."""
    plan = evaluation_plan(number, max_seconds)
    path = folder / f"song-{number:03d}.wav"
    path.with_suffix(".tags.txt").write_text(plan.tags + "\n", encoding="utf-8")
    path.with_suffix(".lyrics.txt").write_text(plan.lyrics, encoding="utf-8")
    prompt = (plan.tags, plan.lyrics)
    made = program.generate(model_path, prompt, path, number, length_limit_ms(plan), sampling)["result"]
    heard = hear(read_wav(path))
    errors, syllables = vowel_errors(heard, plan)
    return {
        "song": number,
        "tags": plan.tags,
        "right": {**agreement(heard, plan), "ending": ending_agrees(made["frames"], made["stop_reason"], plan)},
        "heard": heard_attributes(heard),
        "stop_reason": made["stop_reason"],
        "frames": made["frames"],
        "plan_frames": plan.codes,
        "bars_too_long": round(bars_too_long(made["frames"], plan), 2),
        "syllables": syllables,
        "vowel_errors": errors,
        **({"drafts": made["drafts"]} if "drafts" in made else {}),
        "real_time_factor": round(made["real_time_factor"]["total"], 3),
        "warnings": made["warnings"],
        "device": made["device"],
    }


def totals(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares over all songs, with 95 % intervals; what is for information stands apart."""
    syllables, errors = (sum(row[name] for row in rows) for name in ("syllables", "vowel_errors"))
    return {
        **{name: share([row["right"][name] for row in rows]) for name in OUTCOMES},
        "everything": share([all(row["right"].values()) for row in rows]),
        "information": {
            "stopped_by_itself": share([row["stop_reason"] == "eos" for row in rows]),
            "vowels": round(1 - errors / syllables, 4) if syllables else 0.0,
        },
    }


def parse_requirements(text: str) -> dict[str, int]:
    """ "tempo=3,sum=11" -> how many songs must be right in what; `sum` counts every outcome of every song."""
    wanted = {}
    for part in text.split(","):
        match = re.fullmatch(r"(\w+)=(\d+)", part)
        if not match or match[1] not in (*OUTCOMES, "sum"):
            raise argparse.ArgumentTypeError(f"{part}: must be NAME=COUNT, NAME one of {', '.join(OUTCOMES)}, sum")
        wanted[match[1]] = int(match[2])
    return wanted


def missed(rows: Sequence[dict[str, Any]], wanted: dict[str, int]) -> list[str]:
    """Sentences about the requirements that the songs do not meet."""
    counts = {name: sum(row["right"][name] for row in rows) for name in OUTCOMES}
    counts["sum"] = sum(counts.values())
    return [f"{name}: {counts[name]} right, {least} required" for name, least in wanted.items() if counts[name] < least]


def main(arguments: list[str] | None = None) -> int:
    """Command line; 1 if a requirement is missed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("prompt_following", __doc__)
    parser.add_argument("--model_path", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--songs", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="number of the first song")
    parser.add_argument("--max_seconds", type=float, default=MAX_SECONDS, help="of the longest plans")
    add_sampling(parser)
    parser.add_argument("--keep", type=Path, help="keep the songs in this folder")
    parser.add_argument(
        "--require",
        type=parse_requirements,
        default={},
        metavar="NAME=COUNT,...",
        help="fail unless so many songs are right: tempo, mode, drums, ending, or sum over these",
    )
    parser.add_argument("--more", default="", metavar="FLAGS", help='of generate, as "--lossy topk --draft_frames 1"')
    add_program(parser)
    options = parser.parse_args(arguments)
    program = Program(options.program, options.threads, tuple(shlex.split(options.more)))
    sampling = sampling_of(options)
    rows: list[dict[str, Any]] = []
    try:
        result = {**provenance("prompt_following", arguments), **program_provenance(program, options.model_path)}
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
        with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as folder:
            for number in range(options.first, options.first + options.songs):
                rows.append(
                    measure_song(program, options.model_path, number, options.max_seconds, sampling, Path(folder))
                )
                print(_line(rows[-1]), flush=True)
    except (ProgramError, ValueError, OSError) as error:
        print(f"prompt_following: {error}", file=sys.stderr)
        return 2
    settings = {"plans_seed": EVALUATION_SEED, "song_seeds": "the song's number", "max_seconds": options.max_seconds}
    settings |= {**asdict(sampling), "more": options.more}
    result["settings"] = {**settings, "ending_bars": ENDING_BARS, "ending_part": ENDING_PART}
    result["device"] = rows[0]["device"] if rows else ""
    result["totals"] = totals(rows)
    result["songs"] = [{name: value for name, value in row.items() if name != "device"} for row in rows]
    write_result(result, options.out)
    for name in (*OUTCOMES, "everything"):
        total = result["totals"][name]
        low, high = total["interval_95"]
        print(f"{name}: {total['right']} of {total['of']} ({100 * low:.0f} to {100 * high:.0f} %)")
    failures = missed(rows, options.require)
    for failure in failures:
        print(f"prompt_following: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _line(row: dict[str, Any]) -> str:
    verdicts = ", ".join(name if right else f"{name} WRONG" for name, right in row["right"].items())
    return f"song {row['song']} ({row['tags']}): {verdicts}; {row['bars_too_long']:+.1f} bars, {row['stop_reason']}"


if __name__ == "__main__":
    sys.exit(main())
