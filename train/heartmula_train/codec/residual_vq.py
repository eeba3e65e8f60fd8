"""Residual vector quantization at 12.5 Hz (codec.md A4, A11)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heartmula_train.codec.config import NUM_QUANTIZERS, CodecConfig


class Codebook(nn.Module):
    """Entries [1, K, d] and the running sums that move them (exponential moving averages, no gradient)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        size, dim = config.codebook_size, config.codebook_dim
        self.decay, self.dead_below = config.decay, config.threshold_ema_dead_code
        self.register_buffer("initted", torch.tensor(False))
        self.register_buffer("cluster_size", torch.zeros(1, size))
        self.register_buffer("embed_avg", torch.zeros(1, size, dim))
        self.register_buffer("embed", torch.zeros(1, size, dim))

    def lookup(self, indices: Tensor) -> Tensor:
        """indices [...] -> entries [..., d]; -1 or anything outside the codebook contributes 0."""
        inside = (indices >= 0) & (indices < self.embed.shape[1])
        return self.embed[0][indices.clamp(0, self.embed.shape[1] - 1)] * inside[..., None]

    def nearest(self, x: Tensor) -> Tensor:
        """x [n, d] -> index of the nearest entry by Euclidean distance, [n]."""
        entries = self.embed[0]
        return (entries.pow(2).sum(-1) - 2.0 * x @ entries.T).argmin(-1)

    @torch.no_grad()
    def start(self, x: Tensor, generator: torch.Generator, rounds: int = 10) -> None:
        """k-means on x [n, d]: entries begin at random points."""
        size = self.embed.shape[1]
        picks = torch.randint(x.shape[0], (size,), generator=generator)
        self.embed[0] = x[picks.to(x.device)]
        for _ in range(rounds):
            counts, sums = self._sums(x)
            used = counts > 0
            self.embed[0][used] = sums[used] / counts[used, None]
        counts, sums = self._sums(x)
        self.cluster_size[0], self.embed_avg[0] = counts, sums
        self.initted.fill_(True)

    @torch.no_grad()
    def update(self, x: Tensor, generator: torch.Generator) -> None:
        """One step of the moving averages on x [n, d]; entries that are hardly used move to random points of x."""
        counts, sums = self._sums(x)
        self.cluster_size[0].lerp_(counts, 1.0 - self.decay)
        self.embed_avg[0].lerp_(sums, 1.0 - self.decay)
        dead = self.cluster_size[0] < self.dead_below
        if dead.any():
            picks = torch.randint(x.shape[0], (int(dead.sum()),), generator=generator)
            self.embed_avg[0][dead] = x[picks.to(x.device)] * self.dead_below
            self.cluster_size[0][dead] = float(self.dead_below)
        self.embed[0] = self.embed_avg[0] / self.cluster_size[0][:, None]

    def _sums(self, x: Tensor) -> tuple[Tensor, Tensor]:
        indices = self.nearest(x)
        counts = torch.bincount(indices, minlength=self.embed.shape[1]).to(x.dtype)
        sums = torch.zeros_like(self.embed[0]).index_add_(0, indices, x)
        return counts, sums


class _Layer(nn.Module):
    """Holds the codebook under the official name."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self._codebook = Codebook(config)


class ResidualVq(nn.Module):
    """Eight codebooks, each on what the ones before it left; one projection in, one out."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.project_in = nn.Linear(config.dim, config.codebook_dim)
        self.project_out = nn.Linear(config.codebook_dim, config.dim)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(NUM_QUANTIZERS))

    def codebook(self, index: int) -> Codebook:
        """The codebook of stage `index`."""
        return self.layers[index]._codebook

    def lookup(self, codes: Tensor) -> Tensor:
        """codes [T, 8] -> features [T, dim]."""
        stages = [self.codebook(q).lookup(codes[..., q]) for q in range(NUM_QUANTIZERS)]
        return self.project_out(torch.stack(stages).sum(0))

    @torch.no_grad()
    def encode(self, features: Tensor) -> Tensor:
        """features [T, dim] -> codes [T, 8]."""
        residual = self.project_in(features)
        codes = []
        for q in range(NUM_QUANTIZERS):
            codes.append(self.codebook(q).nearest(residual))
            residual = residual - self.codebook(q).lookup(codes[-1])
        return torch.stack(codes, dim=-1)
