"""A student's flow map, and what is wrong with it: errors whose squares are its losses (codec_speed.md C3).

The map X(x, s, t) = x + (t - s) U(x, s, t - s) takes a point at time s to where the flow dx/dt = v(x, t) takes it by
time t. Every error is 0 for the exact map, at every point. `expected` values carry no gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp

# U(x [B, T, C], s [B], interval [B]) -> [B, T, C]
MeanVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]
# v(x [B, T, C], t [B]) -> [B, T, C]
Velocity = Callable[[Tensor, Tensor], Tensor]


def per_row(t: Tensor) -> Tensor:
    """[B] -> [B, 1, 1]."""
    return t[:, None, None]


def moved(u: MeanVelocity, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """X(x, s, t)."""
    return x + per_row(t - s) * u(x, s, t - s)


def guidance_error(u: MeanVelocity, v: Velocity, x: Tensor, s: Tensor) -> Tensor:
    """U(x, s, 0) - v(x, s): of the velocity itself."""
    with torch.no_grad():
        expected = v(x, s)
    return u(x, s, torch.zeros_like(s)) - expected


def interval_error(u: MeanVelocity, x: Tensor, s: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """U(x, s, t - s) - (end - x) / (t - s): `end` is where a solution of the flow through x is at t (IntMeanFlow)."""
    return u(x, s, t - s) - (end - x) / per_row(t - s)


def consistency_error(u: MeanVelocity, x: Tensor, s: Tensor, middle: Tensor, m: Tensor, t: Tensor) -> Tensor:
    """As `interval_error`, but the map itself says where `middle`, the solution at m, is at t (CTM)."""
    with torch.no_grad():
        end = torch.where(per_row(m < t), moved(u, middle, m, t), middle)
    return interval_error(u, x, s, end, t)


def lagrangian_error(u: MeanVelocity, v: Velocity, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """dX/dt - v(X, t), with dX/dt = U + (t - s) dU/dt (Lagrangian self-distillation)."""
    mean, rate = jvp(lambda interval: u(x, s, interval), (t - s,), (torch.ones_like(t),))
    with torch.no_grad():
        expected = v(x + per_row(t - s) * mean, t)
    return mean + per_row(t - s) * rate - expected


def eulerian_error(u: MeanVelocity, v: Velocity, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """U - (v + (t - s) dU/ds along the flow): MeanFlow's, and align-your-flow's EMD."""
    with torch.no_grad():
        slope = v(x, s)
        one = torch.ones_like(s)
        _, rate = jvp(u, (x, s, t - s), (slope, one, -one))
        expected = slope + per_row(t - s) * rate
    return u(x, s, t - s) - expected
