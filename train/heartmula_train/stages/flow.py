"""Stage 3: flow matching from codes to latents (codec.md A5, A11).

Guidance dropout and in-context continuation are as inference uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heartmula_train.codec.config import LATENTS_PER_CODE
from heartmula_train.codec.flow_sampler import noised, target_velocity
from heartmula_train.codec.heartcodec import FlowMatching
from heartmula_train.codec.windows import OVERLAP_LATENTS, WINDOW_LATENTS
from heartmula_train.music.render import render
from heartmula_train.stages.autoencoder import WaveAutoencoder
from heartmula_train.stages.config import Config
from heartmula_train.stages.loop import Task
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.stages.songs import SongPool, held_out_plan, training_plan

_VALIDATION_SEED = 12345


@dataclass(frozen=True)
class EncodedSong:
    """codes [T, 8] and latents [2 T, C]."""

    codes: Tensor
    latents: Tensor

    def crop(self, begin: int, frames: int) -> tuple[Tensor, Tensor]:
        """Codes [n, 8] and latents [2 n, C] from code frame `begin`; the song begins again after its end.

        So does the padding of a song's last window.
        """
        positions = (begin + torch.arange(frames, device=self.codes.device)) % self.codes.shape[0]
        latents = self.latents.unflatten(0, (-1, LATENTS_PER_CODE))[positions]
        return self.codes[positions], latents.flatten(0, 1)


@dataclass(frozen=True)
class Batch:
    """x_t and what else the velocity transformer sees, and what it should answer."""

    codes: Tensor  # [B, n, 8]
    point: Tensor  # [B, 2 n, C], at time t between noise and latents
    in_context: Tensor  # [B, 2 n, C]
    t: Tensor  # [B]
    velocity: Tensor  # [B, 2 n, C]
    keep_condition: Tensor  # [B], 0 or 1
    counted: Tensor  # [B, 2 n], 0 in the context


class FlowTask(Task):
    """Velocity at random times, squared error on the frames that are not in context."""

    def __init__(self, config: Config, autoencoder: WaveAutoencoder, quantizer: FeatureQuantizer) -> None:
        self.config = config
        self.settings = config.flow
        self._autoencoder = autoencoder.eval()
        self._quantizer = quantizer.eval()
        torch.manual_seed(config.seed)
        self.module = FlowMatching(config.codec)
        self.module.vq_embed.load_state_dict(quantizer.vq.state_dict())
        self.module.vq_embed.requires_grad_(False)
        self._pool = SongPool(self.settings.pool, lambda index: self.encode(render(training_plan(config, index))))
        self._held_out = [self.encode(render(held_out_plan(config, i))) for i in range(self.settings.validation_songs)]

    def encode(self, song: np.ndarray) -> EncodedSong:
        """song [2, 3840 T]."""
        return EncodedSong(self._quantizer.encode(song), self._autoencoder.encode(song))

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """Short crops suffice for most of the training; whole windows come last."""
        whole = progress >= 1.0 - self.settings.window_part
        latent_frames = WINDOW_LATENTS if whole else self.settings.crop_frames
        count = max(1, self.settings.batch * self.settings.crop_frames // latent_frames)
        rng = np.random.default_rng((self.config.seed, 3, step))
        batch = self._batch(rng, self._pool.at(step), count, latent_frames // LATENTS_PER_CODE)
        return {"loss": self._error(batch)}

    def _batch(self, rng: np.random.Generator, songs: list[EncodedSong], count: int, frames: int) -> Batch:
        crops = []
        for _ in range(count):
            song = songs[int(rng.integers(len(songs)))]
            crops.append(song.crop(int(rng.integers(song.codes.shape[0])), frames))
        codes = torch.stack([crop[0] for crop in crops])
        latents = torch.stack([crop[1] for crop in crops])
        device, length = latents.device, latents.shape[1]
        longest = min(OVERLAP_LATENTS, length - 1)
        held = np.where(rng.random(count) < self.settings.in_context, rng.integers(1, longest + 1, count), 0)
        positions = torch.arange(length, device=device)[None]
        counted = (positions >= torch.from_numpy(held).to(device)[:, None]).float()
        t = torch.from_numpy(rng.random(count).astype(np.float32)).to(device)
        noise = torch.from_numpy(rng.standard_normal(latents.shape, np.float32)).to(device)
        return Batch(
            codes=codes,
            point=noised(noise, latents, t[:, None, None]),
            in_context=latents * (1 - counted)[..., None],
            t=t,
            velocity=target_velocity(noise, latents),
            keep_condition=torch.from_numpy(rng.random(count) >= self.settings.drop_condition).float().to(device),
            counted=counted,
        )

    def _error(self, batch: Batch) -> Tensor:
        mu = self.module.condition(batch.codes) * batch.keep_condition[:, None, None]
        velocity = self.module.estimator(torch.cat((batch.point, batch.in_context, mu), dim=-1), batch.t)
        squared = (velocity - batch.velocity).square().mean(-1)
        return (squared * batch.counted).sum() / batch.counted.sum()

    def validate(self) -> dict[str, float]:
        """Loss on crops of held-out songs with always the same noise and times."""
        rng = np.random.default_rng(_VALIDATION_SEED)
        frames = self.settings.crop_frames // LATENTS_PER_CODE
        batches = [self._batch(rng, [song], 8, frames) for song in self._held_out]
        return {"loss": float(torch.stack([self._error(batch) for batch in batches]).mean())}
