"""Guidance, temperature, top-k and the draw (lm.md B6 to B8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Exp(1) draws [V] of the n-th code sampled.
Noise = Callable[[int], Tensor]


@dataclass(frozen=True)
class SamplingSettings:
    """How codes are drawn."""

    topk: int = 50
    temperature: float = 1.0
    guidance: float = 1.5

    @property
    def guided(self) -> bool:
        """Whether a second, unconditional row is needed."""
        return self.guidance > 1.0


def guide(logits: Tensor, guidance: float) -> Tensor:
    """[rows, V] -> [V]: u + (c - u) * guidance with two rows, the row itself with one."""
    if logits.shape[0] == 1:
        return logits[0]
    conditional, unconditional = logits
    return unconditional + (conditional - unconditional) * guidance


def sample(logits: Tensor, settings: SamplingSettings, exponential: Tensor) -> int:
    """Logits [V] and Exp(1) draws [V] -> a code. Ties at the top-k threshold are kept."""
    scaled = logits / settings.temperature
    threshold = torch.topk(scaled, min(settings.topk, scaled.shape[-1])).values[-1]
    kept = torch.where(scaled < threshold, -torch.inf, scaled)
    return int(torch.argmax(torch.softmax(torch.log_softmax(kept, -1), -1) / exponential))


def seeded_noise(seed: int, vocabulary: int) -> Noise:
    """Exp(1) draws from a generator of its own (not the C++ program's Philox numbers)."""
    generator = torch.Generator().manual_seed(seed)
    return lambda _: torch.empty(vocabulary).exponential_(generator=generator)
