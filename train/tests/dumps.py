"""Dumps of a language model, made by the kit's own modules in place of `heartmula dump`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.lm.heartmula import HeartMuLa, LmSession
from heartmula_train.sampling.sampler import SamplingSettings, guide, sample, seeded_noise

TOPK = 10
GUIDANCE = 1.5


@torch.no_grad()
def write_dump(
    model: HeartMuLa, path: Path, frames: int, seed: int, temperature: float = 1.0, guided: bool = True, **told: object
) -> None:
    """A song of noise: `frames` frames after a prompt of five tokens."""
    settings = SamplingSettings(TOPK, temperature, GUIDANCE)
    noise = seeded_noise(seed, model.config.audio_vocab_size)
    session = LmSession(model, guided)
    session.prefill(torch.arange(5) + seed, 2)
    codes, hidden, kept = [], [], []
    for _ in range(frames):
        if codes:
            session.feed(torch.tensor(codes[-1]))
        frame: list[int] = []
        hidden.append(session.hidden)
        for codebook in range(CODEBOOKS):
            rows = session.first_logits() if codebook == 0 else session.next_logits(codebook, frame[-1])
            logits = guide(rows, GUIDANCE)
            kept.append(logits.topk(TOPK))
            frame.append(sample(logits, settings, noise(0)))
        codes.append(frame)
    tensors = {
        "codes": torch.tensor(codes, dtype=torch.int32),
        "hidden": torch.stack(hidden),
        "tokens": torch.stack([top.indices for top in kept]).int().view(frames, CODEBOOKS, TOPK),
        "logits": torch.stack([top.values for top in kept]).view(frames, CODEBOOKS, TOPK),
    }
    about = {
        "version": 1,
        "language_model": "tiny",
        "temperature": temperature,
        "topk": TOPK,
        "cfg_scale": GUIDANCE,
        "seed": seed,
        "codes": path.name,
        **told,
    }
    save_file(tensors, path, {"heartmula_dump": json.dumps(about)})
