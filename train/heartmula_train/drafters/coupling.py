"""How often drafts are the codes that the target draws: losses to train for it, rates, candidates (decoding.md 2).

The target's distribution p is known at its kept tokens [..., K] (a token of -1 is none); a drafter's q by logits
[..., V]. A temperature is that of the song, shape [...].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from heartmula_train.drafters.language_model import LanguageModelEnds
from heartmula_train.drafters.modules import MicroDepthDecoder
from heartmula_train.lm.config import CODEBOOKS


def target_log_probabilities(logits: Tensor, temperature: Tensor) -> Tensor:
    """Of the kept tokens [..., K], -inf where there is none."""
    return F.log_softmax(logits.float() / temperature[..., None], -1)


def drafted_log_probabilities(logits: Tensor, temperature: Tensor, topk: int | None = None) -> Tensor:
    """[..., V] over all codes, or over the drafter's own `topk`: -inf elsewhere."""
    scaled = logits.float() / temperature[..., None]
    if topk is not None and topk < scaled.shape[-1]:
        threshold = scaled.topk(topk, dim=-1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < threshold, -torch.inf)
    return F.log_softmax(scaled, -1)


def at_tokens(log_q: Tensor, tokens: Tensor) -> Tensor:
    """log q [..., V] at tokens [..., K]; -inf for none."""
    return log_q.gather(-1, tokens.clamp(min=0)).masked_fill(tokens < 0, -torch.inf)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) [...] of log p, log q at the kept tokens [..., K]."""
    kept = log_p.isfinite()
    difference = log_p.masked_fill(~kept, 0.0) - log_q.masked_fill(~kept, 0.0)
    return (log_p.exp() * difference).sum(-1)


def acceptance(log_p: Tensor, log_q: Tensor) -> Tensor:
    """sum of min(p, q) [...]: what rejection sampling accepts, 1 - TV."""
    return torch.minimum(log_p.exp(), log_q.exp()).sum(-1)


def coupled_match(log_p: Tensor, log_q: Tensor) -> Tensor:
    """How often the same noise draws the same token of p and q: sum_i 1 / sum_j max(p_j / p_i, q_j / q_i).

    log q [..., K] at p's tokens, after q's own top-k: what q has elsewhere belongs to tokens that p never draws.
    """
    p, q = log_p.exp(), log_q.exp()
    elsewhere = (1.0 - q.sum(-1, keepdim=True)).clamp(min=0.0) / q  # [..., K], by i
    ratios = torch.maximum(p[..., None, :] / p[..., :, None], q[..., None, :] / q[..., :, None])  # [..., i, j]
    return torch.where((p > 0) & (q > 0), 1.0 / (ratios.sum(-1) + elsewhere), 0.0).sum(-1)


def gumbel(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """-log E with E ~ Exp(1), on the CPU."""
    return -torch.empty(shape).exponential_(generator=generator).clamp(min=1e-30).log()


def noise_that_drew(log_p: Tensor, tokens: Tensor, codes: Tensor, noise: Tensor) -> Tensor:
    """Gumbel noise [N, V], given that it made p draw `codes` [N]: free `noise` [N, V], moved below the winner's.

    log p, tokens [N, K]. The greatest of log p + G is Gumbel itself, whichever token has it; the others are then
    Gumbel cut off at it.
    """
    is_code = tokens == codes[:, None]
    own = noise.gather(-1, tokens.clamp(min=0))  # [N, K]
    greatest = (own * is_code).sum(-1, keepdim=True)  # [N, 1]
    below = -torch.logaddexp(-greatest, -(log_p + own)) - log_p
    moved = torch.where(is_code, greatest - log_p, below)
    spare = torch.cat((noise, torch.zeros_like(noise[:, :1])), 1)  # the last column takes what is none
    kept = (tokens >= 0) & log_p.isfinite()
    return spare.scatter(1, torch.where(kept, tokens, noise.shape[1]), moved.masked_fill(~kept, 0.0))[:, :-1]


@torch.no_grad()
def candidates(
    ends: LanguageModelEnds,
    depth: MicroDepthDecoder,
    hidden: Tensor,
    noise: Tensor,
    temperature: Tensor,
    guidance: float,
    topk: int,
    count: int,
) -> tuple[Tensor, Tensor]:
    """List coupling: the `count` frames with the greatest sum of log q + G, by a beam: codes [N, count, 8], sums.

    hidden [N, 2, D] (estimates), noise [N, 8, V], temperature [N]; a sum of -inf is no candidate.
    """
    rows = hidden.shape[0]
    scores = drafted_log_probabilities(ends.first_logits(hidden, guidance), temperature, topk) + noise[:, 0]
    sums, picks = scores.topk(min(count, scores.shape[-1]), dim=-1)  # [N, n]
    codes = picks[..., None]
    for codebook in range(1, CODEBOOKS):
        width = codes.shape[1]
        spread = hidden[:, None].expand(rows, width, *hidden.shape[1:]).flatten(0, 1)
        logits = depth.next_logits(spread, codes.flatten(0, 1)).view(rows, width, -1)
        log_q = drafted_log_probabilities(logits, temperature[:, None].expand(rows, width), topk)
        scores = (sums[..., None] + log_q + noise[:, None, codebook]).flatten(1)  # [N, n V]
        sums, picks = scores.topk(min(count, scores.shape[-1]), dim=-1)
        before = (picks // logits.shape[-1])[..., None].expand(-1, -1, codebook)
        codes = torch.cat((codes.gather(1, before), (picks % logits.shape[-1])[..., None]), dim=-1)
    return codes, sums
