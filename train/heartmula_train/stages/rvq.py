"""Stage 2: the residual VQ on log-mel and chroma (codec.md A11)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heartmula_train.codec.config import NUM_QUANTIZERS, CodecConfig
from heartmula_train.codec.features import DIM, song_features
from heartmula_train.codec.residual_vq import ResidualVq
from heartmula_train.music.render import render
from heartmula_train.stages.config import Config
from heartmula_train.stages.loop import Task
from heartmula_train.stages.songs import SongPool, held_out_plan, render_training, starting_plan


class FeatureQuantizer(nn.Module):
    """Standardises features, then quantizes them. Only `vq` is shipped."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        if config.dim != DIM:
            raise ValueError(f"codec.dim is {config.dim}, but the features have {DIM}")
        self.vq = ResidualVq(config)
        self.register_buffer("mean", torch.zeros(DIM))
        self.register_buffer("deviation", torch.ones(DIM))

    def standardised(self, song: np.ndarray) -> Tensor:
        """song [2, 3840 T] -> features [T, 128] of mean 0 and deviation 1."""
        return (torch.from_numpy(song_features(song)).to(self.mean.device) - self.mean) / self.deviation

    def encode(self, song: np.ndarray) -> Tensor:
        """song [2, 3840 T] -> codes [T, 8]."""
        return self.vq.encode(self.standardised(song))

    @torch.no_grad()
    def start(self, features: Tensor, generator: torch.Generator) -> None:
        """Statistics, principal components for the projections, k-means for the codebooks; features [n, 128]."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0) + 1e-3)
        x = (features - self.mean) / self.deviation
        components = torch.linalg.svd(x, full_matrices=False).Vh[: self.vq.project_in.out_features]  # [d, 128]
        self.vq.project_in.weight.copy_(components)
        self.vq.project_out.weight.copy_(components.T)
        self.vq.project_in.bias.zero_()
        self.vq.project_out.bias.zero_()
        residual = self.vq.project_in(x)
        for q in range(NUM_QUANTIZERS):
            codebook = self.vq.codebook(q)
            codebook.start(residual, generator)
            residual = residual - codebook.lookup(codebook.nearest(residual))


class RvqTask(Task):
    """Frames of fresh songs; projections by gradient, codebooks by moving averages, quantizers dropped at random."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.settings = config.rvq
        self.module = FeatureQuantizer(config.codec)
        self._generator = torch.Generator()
        self._pool = SongPool(
            self.settings.pool, lambda index: torch.from_numpy(song_features(render_training(config, index)))
        )
        self._held_out = [render(held_out_plan(config, i)) for i in range(self.settings.validation_songs)]

    def start(self) -> None:
        """Before the first step, unless the module's state is loaded."""
        songs = [render(starting_plan(self.config, i)) for i in range(self.settings.start_songs)]
        features = torch.from_numpy(np.concatenate([song_features(song) for song in songs]))
        self.module.start(features, torch.Generator().manual_seed(self.config.seed))

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """Squared error with all quantizers and with a random number of them, and commitment."""
        rng = np.random.default_rng((self.config.seed, 2, step))
        frames = torch.cat(self._pool.at(step))
        picks = torch.from_numpy(rng.integers(0, len(frames), self.settings.batch))
        x = (frames[picks].to(self.module.mean.device) - self.module.mean) / self.module.deviation
        vq = self.module.vq
        latent = vq.project_in(x)
        kept = int(rng.integers(1, NUM_QUANTIZERS + 1))
        total = partial = torch.zeros_like(latent)
        self._generator.manual_seed((self.config.seed << 32) + step)
        for q in range(NUM_QUANTIZERS):
            residual = latent - total
            total = total + vq.codebook(q).lookup(vq.codebook(q).nearest(residual.detach()))
            vq.codebook(q).update(residual.detach(), self._generator)
            if q + 1 == kept:
                partial = total
        commitment = F.mse_loss(latent, total)
        straight, partly = (latent + (quantized - latent).detach() for quantized in (total, partial))
        full_error, partial_error = (F.mse_loss(vq.project_out(z), x) for z in (straight, partly))
        loss = full_error + 0.5 * partial_error + self.settings.commitment * commitment
        return {"loss": loss, "error": full_error, "partial_error": partial_error, "commitment": commitment}

    def validate(self) -> dict[str, float]:
        """Relative error of the features of held-out songs after one and after all codebooks, and codes in use."""
        features = torch.cat([self.module.standardised(song) for song in self._held_out])
        vq = self.module.vq
        codes = vq.encode(features)
        first = codes.clone()
        first[:, 1:] = -1
        scale = features.square().mean()
        used = [len(codes[:, q].unique()) / self.config.codec.codebook_size for q in range(NUM_QUANTIZERS)]
        return {
            "error_one_codebook": float(((vq.lookup(first) - features).square().mean() / scale).sqrt()),
            "error": float(((vq.lookup(codes) - features).square().mean() / scale).sqrt()),
            "codes_used": float(np.mean(used)),
        }
