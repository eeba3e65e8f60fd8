"""Two distributions drawn from with the same noise: how often they agree, and which noise drew a code.

A code is argmax(log p + Gumbel noise) over the kept tokens, as `sampler.sample` draws it (Exp(1) = exp(-Gumbel)).
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-30


def log_probabilities(logits: Tensor, temperature: float, topk: int) -> Tensor:
    """Logits [..., V] -> log p [..., V] of the `topk` kept tokens, -inf for the others; one of equal ones is kept."""
    scaled = logits.float() / temperature
    best = scaled.topk(min(topk, scaled.shape[-1]))
    kept = torch.full_like(scaled, -torch.inf).scatter(-1, best.indices, best.values)
    return torch.log_softmax(kept, -1)


def coupled_match(log_p: Tensor, log_q: Tensor, topk: int) -> Tensor:
    """How often both draw the same token with the same noise: [..., V] of at most `topk` tokens each -> [...].

    sum_i 1 / sum_j max(p_j / p_i, q_j / q_i), i over the tokens of both.
    """
    count = min(topk, log_p.shape[-1])
    p, q = log_p.exp(), log_q.exp()
    own, other = log_p.topk(count).indices, log_q.topk(count).indices
    p_j, q_j = (torch.cat((x.gather(-1, own), x.gather(-1, other)), -1) for x in (p, q))
    seen_twice = torch.cat((torch.zeros_like(own, dtype=torch.bool), p.gather(-1, other) > 0), -1)
    p_i, q_i = p_j[..., :count, None], q_j[..., :count, None]
    ratios = torch.maximum(p_j[..., None, :] / p_i.clamp(min=_TINY), q_j[..., None, :] / q_i.clamp(min=_TINY))
    sums = ratios.masked_fill(seen_twice[..., None, :], 0.0).sum(-1)  # [..., count]
    both = (p_i > _TINY) & (q_i > _TINY)
    return torch.where(both[..., 0], 1.0 / sums.clamp(min=_TINY), 0.0).sum(-1)


def gumbel(shape: torch.Size, device: torch.device) -> Tensor:
    """Noise of PyTorch's generator."""
    return -torch.empty(shape, device=device).exponential_().clamp(min=_TINY).log()


def noise_that_draws(log_p: Tensor, codes: Tensor) -> Tensor:
    """log p [..., V] and codes [...] -> Gumbel noise [..., V] with which these are drawn, at random among such noise.

    If codes are drawn by p, the noise is plain. A code that is not kept is taken for the least likely one.
    """
    at = codes[..., None]
    kept = log_p > -torch.inf
    floor = log_p.masked_fill(~kept, torch.inf).amin(-1, keepdim=True)
    log_p = log_p.scatter(-1, at, torch.maximum(log_p.gather(-1, at), floor))
    total = log_p.logsumexp(-1, keepdim=True)
    plain = gumbel(log_p.shape, log_p.device)
    best = total + gumbel(total.shape, log_p.device)  # the largest of all log p + noise, whichever token has it
    below = -torch.logaddexp(-(log_p + plain), -best)  # others, given that they are smaller
    noise = torch.where(log_p > -torch.inf, below - log_p, plain)
    return noise.scatter(-1, at, best - log_p.gather(-1, at))
