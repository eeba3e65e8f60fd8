"""From noise to latents, one window at a time: Euler steps with guidance (codec.md A5), and a student's few steps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from heartmula_train.codec.velocity_transformer import VelocityTransformer

SIGMA_MIN = 1e-6


def time_grid(steps: int) -> np.ndarray:
    """float32 [steps + 1] from 0 to 1, made from both ends."""
    step = np.float32(1.0 / steps)
    forward = step * np.arange(steps + 1, dtype=np.float32)
    backward = np.float32(1.0) - step * np.arange(steps, -1, -1, dtype=np.float32)
    return np.where(np.arange(steps + 1) < (steps + 1) // 2, forward, backward).astype(np.float32)


def noised(noise: Tensor, latents: Tensor, t: Tensor | float) -> Tensor:
    """The point at time t on the line from noise (t = 0) to latents (t = 1)."""
    return (1.0 - (1.0 - SIGMA_MIN) * t) * noise + t * latents


def target_velocity(noise: Tensor, latents: Tensor) -> Tensor:
    """d noised / dt."""
    return latents - (1.0 - SIGMA_MIN) * noise


@torch.no_grad()
def sample_latents(
    estimator: VelocityTransformer, mu: Tensor, noise: Tensor, context: Tensor, steps: int, guidance: float
) -> Tensor:
    """mu [T, dim], noise [T, C], the context's latents [n, C] (n may be 0) -> latents [T, C]."""
    held = context.shape[0]
    in_context = torch.zeros_like(noise)
    in_context[:held] = context
    conditional = torch.cat((in_context, mu), dim=-1)
    rows = [conditional]
    if guidance > 1.0:
        rows.insert(0, torch.cat((in_context, torch.zeros_like(mu)), dim=-1))
    fixed = torch.stack(rows)  # [1 or 2, T, C + dim]
    grid = time_grid(steps)
    x, t, dt = noise.clone(), grid[0], grid[1] - grid[0]
    for step in range(1, steps + 1):
        x[:held] = noised(noise[:held], context, float(t))
        h = torch.cat((x.expand(len(rows), -1, -1), fixed), dim=-1)
        velocity = estimator(h, torch.full((len(rows),), float(t), device=x.device))
        v = velocity[0] if len(rows) == 1 else velocity[0] + guidance * (velocity[1] - velocity[0])
        x = x + float(dt) * v
        t = t + dt
        if step < steps:
            dt = grid[step + 1] - t
    x[:held] = context
    return x


@torch.no_grad()
def sample_student(estimator: VelocityTransformer, mu: Tensor, noise: Tensor, context: Tensor, steps: int) -> Tensor:
    """As `sample_latents`, for a student (codec_speed.md C3): guidance and the way between steps are in its weights."""
    held = context.shape[0]
    in_context = torch.zeros_like(noise)
    in_context[:held] = context
    fixed = torch.cat((in_context, mu), dim=-1)  # [T, C + dim]
    grid = time_grid(steps)
    x = noise.clone()
    for begin, end in pairwise(grid):
        x[:held] = noised(noise[:held], context, float(begin))
        h = torch.cat((x, fixed), dim=-1)[None]
        times = torch.tensor([[begin], [end - begin]], device=x.device)
        x = x + float(end - begin) * estimator(h, *times)[0]
    x[:held] = context
    return x
