"""Muon: momentum, made orthogonal by a few products."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_ROUNDS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of a quintic that takes singular values to about 1, from 1e-3 on
_USUAL_RMS = 0.2  # of AdamW's updates, whose rates and weight decay then serve


class Muon(torch.optim.Optimizer):
    """For matrices. Those of one shape are updated together; the rate is a tensor, for graphs read it."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: Tensor, weight_decay: float) -> None:
        shapes: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            shapes.setdefault(parameter.shape, []).append(parameter)
        super().__init__([{"params": group} for group in shapes.values()], {"lr": rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Every parameter has a gradient."""
        for group in self.param_groups:
            parameters, rate = group["params"], group["lr"]
            gradient = torch.stack([p.grad for p in parameters])
            state = self.state[parameters[0]]
            if not state:
                state["momentum"] = torch.zeros_like(gradient)
            state["momentum"].lerp_(gradient, 1.0 - _MOMENTUM)
            update = orthogonal(torch.lerp(gradient, state["momentum"], _MOMENTUM))
            update = update * (rate * _USUAL_RMS * max(update.shape[-2:]) ** 0.5)
            kept = 1.0 - rate * group["weight_decay"]
            for parameter, change in zip(parameters, update, strict=True):
                parameter.mul_(kept).sub_(change)


def orthogonal(matrices: Tensor) -> Tensor:
    """[n, a, b] -> float32 of the same shape, singular values near 1; in bf16 on a GPU, which is accurate enough."""
    x = matrices.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True).to(x.dtype) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return (x.mT if is_tall else x).float()
