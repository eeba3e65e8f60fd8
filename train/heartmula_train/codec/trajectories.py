"""Fine guided solutions of the flow with points on the way: what a student learns from (codec_speed.md C2, C3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heartmula_train.codec.flow_sampler import noised
from heartmula_train.codec.velocity_transformer import VelocityTransformer


@dataclass(frozen=True)
class Passages:
    """What the flow is asked for: several passages of the same length."""

    mu: Tensor  # [B, T, dim]
    noise: Tensor  # [B, T, C]
    in_context: Tensor  # [B, T, C], 0 beyond the context
    held: Tensor  # [B], frames of context

    @property
    def is_context(self) -> Tensor:
        """Bool [B, T, 1]."""
        frames = torch.arange(self.noise.shape[1], device=self.noise.device)
        return (frames[None] < self.held[:, None])[..., None]

    def clamp(self, x: Tensor, t: Tensor | float) -> Tensor:
        """x [B, T, C] at time t (a number, or [B, 1, 1]) with its context as the flow knows it."""
        return torch.where(self.is_context, noised(self.noise, self.in_context, t), x)

    def inputs(self, x: Tensor) -> Tensor:
        """h of the velocity transformer [B, T, 2 C + dim]."""
        return torch.cat((x, self.in_context, self.mu), dim=-1)


def guided_velocity(teacher: VelocityTransformer, passages: Passages, x: Tensor, t: Tensor, guidance: float) -> Tensor:
    """v_g = v(., 0) + guidance (v(., mu) - v(., 0)) at x [B, T, C] and times t [B], in float32."""
    conditional = passages.inputs(x)
    if guidance <= 1.0:
        return teacher(conditional, t).float()
    unconditional = conditional.clone()
    unconditional[..., -passages.mu.shape[-1] :] = 0
    without, given = teacher(torch.cat((unconditional, conditional)), t.repeat(2)).float().chunk(2)
    return without + guidance * (given - without)


@torch.no_grad()
def solve(teacher: VelocityTransformer, passages: Passages, steps: int, guidance: float, intervals: int = 1) -> Tensor:
    """AB2 on a uniform grid -> the points at t = 0, 1 / intervals, ..., 1: [B, intervals + 1, T, C]."""
    if steps % intervals:
        raise ValueError(f"{steps} steps cannot be cut into {intervals} intervals")
    h, x, before = 1.0 / steps, passages.noise.float(), None
    knots = []
    for step in range(steps):
        time = step / steps
        x = passages.clamp(x, time)
        if step % (steps // intervals) == 0:
            knots.append(x)
        t = torch.full((x.shape[0],), time, device=x.device)
        v = guided_velocity(teacher, passages, x, t, guidance)
        x = x + h * (v if before is None else 1.5 * v - 0.5 * before)
        before = v
    knots.append(torch.where(passages.is_context, passages.in_context, x))
    return torch.stack(knots, dim=1)
