"""Writes synthetic songs to listen to: python -m heartmula_train.music --seed 1 --songs 3 --out DIR."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from heartmula_train.codec.config import SAMPLE_RATE
from heartmula_train.music.plan import MAX_SECONDS, draw_plan
from heartmula_train.music.render import render


def main() -> None:
    """For each song a WAV file, its tags and its lyrics."""
    parser = argparse.ArgumentParser(prog="python -m heartmula_train.music", description="Writes synthetic songs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--songs", type=int, default=3)
    parser.add_argument("--max-seconds", type=float, default=MAX_SECONDS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for index in range(options.songs):
        plan = draw_plan(options.seed, index, max_seconds=options.max_seconds)
        name = f"song-{options.seed}-{index}"
        samples = np.round(render(plan).T * 32767).astype(np.int16)
        wavfile.write(options.out / f"{name}.wav", SAMPLE_RATE, samples)
        (options.out / f"{name}-tags.txt").write_text(plan.tags + "\n", encoding="utf-8")
        (options.out / f"{name}-lyrics.txt").write_text(plan.lyrics, encoding="utf-8")
        print(f"{name}: {plan.samples / SAMPLE_RATE:.1f} s, {plan.tags}")


if __name__ == "__main__":
    main()
