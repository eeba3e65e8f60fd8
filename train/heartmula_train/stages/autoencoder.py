"""Stage 1: wave encoder and decoder, latents at 25 Hz rounded to ninths (training.md; codec.md A11)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from heartmula_train.codec.config import SAMPLES_PER_LATENT, CodecConfig
from heartmula_train.codec.distances import log_mel_distance_db, relative_l2, si_sdr_db, spectral_losses
from heartmula_train.codec.encoder import WaveEncoder
from heartmula_train.codec.wave_decoder import ResidualUnit, WaveDecoder, round_to_levels
from heartmula_train.music.render import render
from heartmula_train.stages.config import Config
from heartmula_train.stages.loop import Task
from heartmula_train.stages.songs import SongPool, held_out_plan, render_training

_SETTLING_FRAMES = 3  # left out of the wave loss: the decoder has not heard what came before
_VALIDATION_FRAMES = 125
_RESIDUAL_GAIN = 0.1
_OUTPUT_GAIN = 0.1  # songs have an RMS of about 0.12


class WaveAutoencoder(nn.Module):
    """Encoder (kept by the kit) and decoder (shipped)."""

    def __init__(self, config: CodecConfig, encoder_width: int) -> None:
        super().__init__()
        self.encoder = WaveEncoder(config, encoder_width)
        self.decoder = WaveDecoder(config)
        initialize_decoder(self.decoder)

    def forward(self, samples: Tensor) -> Tensor:
        """[B, 1920 T] -> [B, 1920 T], through rounded latents."""
        return self.decoder(round_to_levels(self.encoder(samples).transpose(1, 2)))[:, 0]

    @torch.no_grad()
    def encode(self, song: np.ndarray) -> Tensor:
        """song [2, 1920 T] -> latents [T, left | right]."""
        device = self.encoder.linear.weight.device
        left, right = self.encoder(torch.from_numpy(song).to(device))
        return torch.cat((left, right), dim=-1)


@torch.no_grad()
def initialize_decoder(decoder: WaveDecoder) -> None:
    """Unit gain through up-sampling, residual branches at a tenth, output near the songs' level, no biases."""
    for module in decoder.modules():
        if isinstance(module, nn.Conv1d):
            fan_in = module.in_channels * module.kernel_size[0]
            _assign(module, torch.randn_like(module.weight) * fan_in**-0.5)
        elif isinstance(module, nn.ConvTranspose1d):
            _assign(module, torch.randn_like(module.weight) * (2 * module.in_channels) ** -0.5)
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            nn.init.zeros_(module.bias)
    for module in decoder.modules():
        if isinstance(module, ResidualUnit):
            _assign(module.conv2, _RESIDUAL_GAIN * module.conv2.weight)
    _assign(decoder[-1], _OUTPUT_GAIN * decoder[-1].weight)


def _assign(module: nn.Module, weight: Tensor) -> None:
    if is_parametrized(module, "weight"):
        module.weight = weight  # gain and direction follow
    else:
        module.weight.copy_(weight)


class AutoencoderTask(Task):
    """Random crops of either audio channel of fresh songs."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.settings = config.autoencoder
        torch.manual_seed(config.seed)
        self.module = WaveAutoencoder(config.codec, self.settings.encoder_width)
        self._pool = SongPool(self.settings.pool, lambda index: render_training(config, index))
        samples = _VALIDATION_FRAMES * SAMPLES_PER_LATENT
        self._held_out = [
            torch.from_numpy(render(held_out_plan(config, i))[:, :samples])
            for i in range(self.settings.validation_songs)
        ]

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """Relative L2, spectral convergence, log-mel and half the log-magnitude, all from the first step."""
        if progress > self.settings.freeze_norm_at:
            self.module.encoder.norm.eval()
        crops = self._crops(step).to(self.module.encoder.linear.weight.device)
        actual = self.module(crops)
        begin = _SETTLING_FRAMES * SAMPLES_PER_LATENT
        parts = {"l2": relative_l2(actual[:, begin:], crops[:, begin:]), **spectral_losses(actual, crops)}
        weights = {"log_magnitude": 0.5}
        loss = torch.stack([weights.get(name, 1.0) * value for name, value in parts.items()]).sum()
        return {"loss": loss, **parts}

    def _crops(self, step: int) -> Tensor:
        """[batch, samples]."""
        rng = np.random.default_rng((self.config.seed, 1, step))
        songs = self._pool.at(step)
        length = self.settings.crop_frames * SAMPLES_PER_LATENT
        crops = []
        for _ in range(self.settings.batch):
            song = songs[int(rng.integers(len(songs)))]
            begin = int(rng.integers(0, song.shape[1] - length + 1))
            crops.append(song[int(rng.integers(2)), begin : begin + length])
        return torch.from_numpy(np.stack(crops))

    def validate(self) -> dict[str, float]:
        """Means over the first 5 s of held-out songs."""
        log_mel, si_sdr = [], []
        for song in self._held_out:
            expected = song.to(self.module.encoder.linear.weight.device)
            actual = self.module(expected)
            log_mel.append(log_mel_distance_db(actual, expected))
            si_sdr.append(si_sdr_db(actual, expected))
        return {"log_mel_db": float(np.mean(log_mel)), "si_sdr_db": float(np.mean(si_sdr))}
