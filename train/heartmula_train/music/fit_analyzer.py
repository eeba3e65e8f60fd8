"""Fits the analyzer's classifiers to synthetic songs: python -m heartmula_train.music.fit_analyzer."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from heartmula_train.music.analyzer import BEAT_LABELS, MODES, TEMPOS, WEIGHTS, Features, Linear, centred
from heartmula_train.music.plan import draw_plan
from heartmula_train.music.render import render

FIT_SEED = 1000  # of the songs to fit to; reports use another


def fit(songs: int, max_seconds: float, out: Path) -> None:
    """Renders `songs` songs and writes the classifiers."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("tempo", "drums", "bright", "beat")}
    labels: dict[str, list[int]] = {name: [] for name in rows}
    chroma: list[list[np.ndarray]] = [[], []]
    for index in range(songs):
        plan = draw_plan(FIT_SEED, index, max_seconds=max_seconds)
        features = Features.of(render(plan))
        seen = {"tempo": features.rhythm(), "drums": features.percussion(), "bright": features.colour()}
        for name, x in seen.items():
            rows[name].append(x)
        labels["tempo"].append(TEMPOS.index(plan.tempo))
        labels["drums"].append(int(plan.drums))
        labels["bright"].append(int(plan.bright))
        beats = features.beats(plan.tempo)[: len(plan.beat_vowels)]
        rows["beat"].extend(beats)
        labels["beat"].extend(BEAT_LABELS.index(vowel) for vowel in plan.beat_vowels[: len(beats)])
        chroma[MODES.index(plan.mode)].append(np.roll(features.chroma, -plan.tonic, axis=-1))
    templates = centred(np.stack([np.mean(of_mode, axis=0) for of_mode in chroma]))
    stored = {"mode.templates": templates.astype(np.float32)}
    for name, x in rows.items():
        model = Linear.fit(np.stack(x).astype(np.float64), np.array(labels[name]))
        stored[f"{name}.weight"] = model.weight.astype(np.float32)
        stored[f"{name}.bias"] = model.bias.astype(np.float32)
    np.savez_compressed(out, **stored)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=400)
    parser.add_argument("--max-seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    fit(options.songs, options.max_seconds, options.out)


if __name__ == "__main__":
    main()
