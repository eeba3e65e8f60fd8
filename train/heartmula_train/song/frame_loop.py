"""From a prompt to frames of codes (lm.md B7)."""

from __future__ import annotations

import torch
from torch import Tensor

from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.lm.heartmula import HeartMuLa, LmSession
from heartmula_train.sampling.sampler import Noise, SamplingSettings, guide, sample
from heartmula_train.text.prompt import GenConfig, Prompt

FRAME_MS = 80


@torch.no_grad()
def generate_frames(
    model: HeartMuLa, config: GenConfig, prompt: Prompt, max_length_ms: int, settings: SamplingSettings, noise: Noise
) -> Tensor:
    """Frames [F, 8]: one, unchecked, and then at most max_length_ms // 80 more, until a code ends the song."""
    session = LmSession(model, settings.guided)
    device = model.audio_head.device
    session.prefill(torch.tensor(prompt.text_ids, device=device), prompt.reference_index)
    frames: list[list[int]] = []
    draws = 0
    for index in range(max_length_ms // FRAME_MS + 1):
        if index > 0:
            session.feed(torch.tensor(frames[-1], device=device))
        codes: list[int] = []
        for codebook in range(CODEBOOKS):
            logits = session.first_logits() if codebook == 0 else session.next_logits(codebook, codes[-1])
            codes.append(sample(guide(logits, settings.guidance).cpu(), settings, noise(draws)))
            draws += 1
        if index > 0 and max(codes) >= config.audio_eos_id:
            break
        frames.append(codes)
    return torch.tensor(frames)
