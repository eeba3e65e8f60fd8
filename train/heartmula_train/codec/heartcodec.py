"""HeartCodec: frames of codes -> 48 kHz stereo."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from heartmula_train.codec.config import LATENTS_PER_CODE, CodecConfig
from heartmula_train.codec.flow_sampler import sample_latents, sample_student
from heartmula_train.codec.residual_vq import ResidualVq
from heartmula_train.codec.velocity_transformer import VelocityTransformer
from heartmula_train.codec.wave_decoder import ScalarModel
from heartmula_train.codec.windows import (
    HOP_CODES,
    OVERLAP_LATENTS,
    WINDOW_CODES,
    WINDOW_LATENTS,
    join_windows,
    plan_windows,
)

DEFAULT_STEPS = 10
DEFAULT_GUIDANCE = 1.25

# Noise [744, C] of a window.
WindowNoise = Callable[[int], Tensor]
# mu [744, dim], noise [744, C] and the context's latents [n, C] of a window -> latents [744, C].
WindowSolver = Callable[[Tensor, Tensor, Tensor], Tensor]


class FlowMatching(nn.Module):
    """Residual VQ, conditioning and velocity transformer."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.vq_embed = ResidualVq(config)
        self.cond_feature_emb = nn.Linear(config.dim, config.dim)
        self.zero_cond_embedding1 = nn.Parameter(torch.zeros(config.dim), requires_grad=False)  # official, unused
        self.estimator = VelocityTransformer(config)

    def condition(self, codes: Tensor) -> Tensor:
        """codes [..., T, 8] at 12.5 Hz -> mu [..., 2 T, dim] at 25 Hz."""
        mu = self.cond_feature_emb(self.vq_embed.lookup(codes))
        return mu.repeat_interleave(LATENTS_PER_CODE, dim=-2)


class HeartCodec(nn.Module):
    """The codec that a checkpoint ships."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.flow_matching = FlowMatching(config)
        self.scalar_model = ScalarModel(config)

    @property
    def default_steps(self) -> int:
        """Of the flow, where nobody asks for a number."""
        return self.config.student_steps[0] if self.config.student_steps else DEFAULT_STEPS

    @torch.no_grad()
    def latents(
        self, codes: Tensor, noise: WindowNoise, steps: int, guidance: float, compat: bool = False
    ) -> list[Tensor]:
        """codes [T, 8] -> latents [744, C] of each window, in-context frames included; a student needs no guidance."""
        estimator = self.flow_matching.estimator

        def solve(mu: Tensor, start: Tensor, context: Tensor) -> Tensor:
            if self.config.student_steps:
                return sample_student(estimator, mu, start, context, steps)
            return sample_latents(estimator, mu, start, context, steps, guidance)

        return self.solved_windows(codes, noise, solve, compat)

    @torch.no_grad()
    def solved_windows(
        self, codes: Tensor, noise: WindowNoise, solve: WindowSolver, compat: bool = False
    ) -> list[Tensor]:
        """`latents` by any solver of a window."""
        plan = plan_windows(codes.shape[0], compat)
        context = torch.zeros(0, self.config.out_channels, device=codes.device)
        windows: list[Tensor] = []
        for window in range(plan.windows):
            positions = (torch.arange(WINDOW_CODES, device=codes.device) + window * HOP_CODES) % codes.shape[0]
            mu = self.flow_matching.condition(codes[positions])
            windows.append(solve(mu, noise(window).to(mu), context))
            context = windows[-1][-OVERLAP_LATENTS:]
        return windows

    @torch.no_grad()
    def decode(
        self,
        codes: Tensor,
        noise: WindowNoise,
        steps: int | None = None,
        guidance: float = DEFAULT_GUIDANCE,
        compat: bool = False,
    ) -> np.ndarray:
        """codes [T, 8] -> samples float32 [2, S]."""
        windows = self.latents(codes, noise, steps or self.default_steps, guidance, compat)
        waves = [self.scalar_model.decode(latents).cpu().numpy() for latents in windows]
        return join_windows(waves, plan_windows(codes.shape[0], compat).samples)

    def seeded_noise(self, seed: int) -> WindowNoise:
        """Normal noise from a generator of its own (not the C++ program's Philox numbers)."""
        shape = (WINDOW_LATENTS, self.config.out_channels)
        return lambda window: torch.randn(shape, generator=torch.Generator().manual_seed((seed << 16) + window))


def song_of_windows(windows: list[Tensor], frames: int) -> Tensor:
    """Latents of each window -> of the song's code frames, each from the first window that holds it."""
    whole = torch.cat([windows[0], *(window[OVERLAP_LATENTS:] for window in windows[1:])])
    return whole[: LATENTS_PER_CODE * frames]
