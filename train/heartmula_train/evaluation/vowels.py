"""Where the sung vowels are lost before a flow is trained: in the features, their projection, or the codebooks.

Usage: python -m heartmula_train.evaluation.vowels --config configs/demo.toml --model_path ../demo --out RESULT.json

A linear classifier is fitted to the beats of some held-out songs and asked for those of others, at three places of the
quantizer: the features that it gets, the codebook_dim numbers that its projection leaves of them, and what its eight
codebooks leave of these. It needs no program and a minute: to be asked after stage rvq, before hours go into the flow.
The share is over beats on which somebody sings; one vowel in five is right at random.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from heartmula_train.evaluation.record import command_parser, provenance, write_result
from heartmula_train.music.analyzer import BEAT_LABELS, Linear
from heartmula_train.music.plan import BEAT_CODES, SongPlan
from heartmula_train.music.render import render
from heartmula_train.stages.config import read_config
from heartmula_train.stages.run import exported_quantizer, load_quantizer
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.stages.songs import held_out_plan

FIRST = 3000  # beyond the songs of the other evaluations
MAX_SECONDS = 24.0
_RIDGE = 1e-3
_MIDDLE = (0.2, 0.8)  # of a beat


def quantized(quantizer: FeatureQuantizer, features: Tensor) -> Tensor:
    """features [T, 128] -> the sum of their codes' entries, [T, codebook_dim]."""
    codes = quantizer.vq.encode(features)
    return torch.stack([quantizer.vq.codebook(q).lookup(codes[:, q]) for q in range(codes.shape[1])]).sum(0)


PLACES: dict[str, Callable[[FeatureQuantizer, Tensor], Tensor]] = {
    "features": lambda _, features: features,
    "projection": lambda quantizer, features: quantizer.vq.project_in(features),
    "codebooks": quantized,
}


def beat_vectors(frames: np.ndarray, plan: SongPlan) -> tuple[np.ndarray, np.ndarray]:
    """frames [T, d] of a song -> [beats, 3 d] and the vowel sung on each beat (0: none).

    The middle of each beat, and how it differs from the song's median and from the beat's end, where voices breathe.
    """
    length, labels = BEAT_CODES[plan.tempo], np.array([BEAT_LABELS.index(vowel) for vowel in plan.beat_vowels])
    beats = frames[: len(labels) * length].reshape(len(labels), length, -1)
    low, high = (max(1, int(part * length)) for part in _MIDDLE)
    middle = beats[:, low : max(low + 1, high)].mean(1)
    return np.concatenate((middle, middle - np.median(frames, 0), middle - beats[:, -1]), axis=1), labels


@torch.no_grad()
def vowel_shares(quantizer: FeatureQuantizer, plans: list[SongPlan], fitted: int) -> dict[str, float]:
    """Part of the sung vowels that are named at each place, when the first `fitted` songs are fitted to."""
    features = [quantizer.standardised(render(plan)) for plan in plans]
    shares = {}
    for place, of in PLACES.items():
        beats = [beat_vectors(of(quantizer, x).numpy(), plan) for x, plan in zip(features, plans, strict=True)]
        known, asked = (
            [np.concatenate(part) for part in zip(*half, strict=True)] for half in (beats[:fitted], beats[fitted:])
        )
        found, sung = Linear.fit(known[0].astype(np.float64), known[1], _RIDGE).classify(asked[0]), asked[1] > 0
        shares[place] = round(float((found == asked[1])[sung].mean()), 4)
    return shares


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("vowels", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="the run's configuration")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="the run's folder")
    source.add_argument("--model_path", type=Path, help="a checkpoint with its quantizer")
    parser.add_argument("--songs", type=int, default=200, help="three quarters are fitted to, the others asked")
    parser.add_argument("--out", type=Path, help="the JSON result")
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.config)
        if options.run:
            quantizer = load_quantizer(config, options.run).eval()
        else:
            quantizer = exported_quantizer(config, options.model_path).eval()
        plans = [held_out_plan(config, FIRST + number, MAX_SECONDS) for number in range(options.songs)]
        shares = vowel_shares(quantizer, plans, options.songs * 3 // 4)
    except (ValueError, OSError) as error:
        print(f"vowels: {error}", file=sys.stderr)
        return 2
    settings = {"codebook_dim": config.codec.codebook_dim, "songs_seed": config.seed, "first": FIRST}
    write_result({**provenance("vowels", arguments), "settings": settings, "totals": shares}, options.out)
    print(", ".join(f"{place} {100 * share:.0f} %" for place, share in shares.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
