"""Accuracy of the analyzer on ground truth, and speed of the generator.

Usage: python -m heartmula_train.music.report_analyzer [--songs N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from heartmula_train.codec.config import SAMPLE_RATE
from heartmula_train.music.analyzer import Analysis, analyze, end_of
from heartmula_train.music.plan import MAX_SECONDS, SongPlan, draw_plan
from heartmula_train.music.render import render

REPORT_SEED = 2000
END_TOLERANCE_S = 0.6  # release and reverb included


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions and replacements from a to b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def end_agrees(analysis: Analysis, plan: SongPlan) -> bool:
    """Whether the song ends, and when its bars do."""
    return analysis.ended and abs(analysis.end_seconds - plan.end_seconds) <= END_TOLERANCE_S


def measure(songs: int, seed: int, max_seconds: float) -> dict[str, float]:
    """Shares of right answers over `songs` songs; speeds in seconds of music a CPU second."""
    right = {name: 0 for name in ("tempo", "mode", "drums", "brightness", "end", "cut_noticed")}
    syllables = errors = 0
    music_s = render_s = analyze_s = 0.0
    for index in range(songs):
        plan = draw_plan(seed, index, max_seconds=max_seconds)
        begin = time.process_time()
        song = render(plan)
        rendered = time.process_time()
        heard = analyze(song)
        render_s, analyze_s = render_s + rendered - begin, analyze_s + time.process_time() - rendered
        music_s += plan.samples / SAMPLE_RATE
        right["tempo"] += heard.tempo == plan.tempo
        right["mode"] += heard.mode == plan.mode
        right["drums"] += heard.drums == plan.drums
        right["brightness"] += heard.bright == plan.bright
        right["end"] += end_agrees(heard, plan)
        cut = int(plan.samples * np.random.default_rng((seed, index, 1)).uniform(0.4, 0.8))
        right["cut_noticed"] += not end_of(song[:, :cut])[1]
        sung = plan.beat_vowels.replace("-", "")
        syllables += len(sung)
        errors += edit_distance(sung, heard.vowels)
    shares = {name: round(count / songs, 4) for name, count in right.items()}
    shares["vowels"] = round(1 - errors / syllables, 4)
    return {
        "songs": songs,
        "seed": seed,
        "music_seconds": round(music_s, 1),
        "syllables": syllables,
        **shares,
        "render_seconds_per_cpu_second": round(music_s / render_s, 1),
        "analyze_seconds_per_cpu_second": round(music_s / analyze_s, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=120)
    parser.add_argument("--seed", type=int, default=REPORT_SEED)
    parser.add_argument("--max-seconds", type=float, default=MAX_SECONDS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = json.dumps(measure(options.songs, options.seed, options.max_seconds), indent=2)
    print(report)
    if options.out:
        options.out.write_text(report + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
