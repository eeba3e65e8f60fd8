"""The kit's own wave encoder; checkpoints do not ship it (codec.md A11).

Samples at 48 kHz -> latents in (-1, 1) at 25 Hz, one audio channel at a time. A linear branch (a strided convolution
that begins as an MDCT, whose coefficients keep the phase of low frequencies) and a log-mel branch, normalised before
the tanh: without that nearly all latents saturate within a minute of training.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heartmula_train.codec.config import SAMPLES_PER_LATENT, CodecConfig
from heartmula_train.music.spectra import mel_filters

_LINEAR_CHANNELS = 192  # the lowest MDCT frequencies, up to 2.4 kHz
_MEL_BANDS = 80
_MEL_FFT = 2048
_MEL_HOP = 480
_MEL_FRAMES = SAMPLES_PER_LATENT // _MEL_HOP
_SPREAD = 0.8  # standard deviation before the tanh


class WaveEncoder(nn.Module):
    """[B, 1920 T] -> [B, T, latent]."""

    def __init__(self, config: CodecConfig, width: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(1, _LINEAR_CHANNELS, 2 * SAMPLES_PER_LATENT, SAMPLES_PER_LATENT, bias=False)
        with torch.no_grad():
            self.linear.weight[:, 0] = torch.from_numpy(_mdct_basis(_LINEAR_CHANNELS))
        self.register_buffer("_window", torch.hann_window(_MEL_FFT), persistent=False)
        filters = torch.from_numpy(mel_filters(_MEL_BANDS, _MEL_FFT, 40.0, 20000.0).copy())
        self.register_buffer("_filters", filters, persistent=False)
        self.mix = nn.Conv1d(_LINEAR_CHANNELS + _MEL_FRAMES * _MEL_BANDS, width, 3, padding=1)
        self.units = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(3))
        self.bypass = nn.Conv1d(_LINEAR_CHANNELS, config.latent_hidden_dim, 1, bias=False)
        self.out = nn.Conv1d(width, config.latent_hidden_dim, 1)
        self.norm = nn.BatchNorm1d(config.latent_hidden_dim, affine=False, momentum=0.05)

    def forward(self, samples: Tensor) -> Tensor:
        """Latents before rounding, as the flow learns them."""
        half = SAMPLES_PER_LATENT // 2
        linear = self.linear(F.pad(samples[:, None], (half, half)))  # [B, 192, T], windows centred on frames
        x = F.silu(self.mix(torch.cat((linear, self._log_mel(samples)), dim=1)))
        for unit in self.units:
            x = x + F.silu(unit(x))
        latents = self.norm(self.out(x) + self.bypass(linear))
        return torch.tanh(_SPREAD * latents).transpose(1, 2)

    def _log_mel(self, samples: Tensor) -> Tensor:
        """[B, 4 * 80, T]: four frames of log-mel for each latent frame."""
        before = _MEL_FFT // 2 - _MEL_HOP // 2
        padded = F.pad(samples, (before, _MEL_FFT - _MEL_HOP - before))
        spectrum = torch.stft(
            padded, _MEL_FFT, _MEL_HOP, window=self._window, center=False, return_complex=True
        )  # [B, bins, 4 T]
        mel = self._filters.T @ spectrum.abs().square()
        log_mel = 0.2 * torch.log(mel + 1e-5)
        batch, bands, frames = log_mel.shape
        grouped = log_mel.view(batch, bands, frames // _MEL_FRAMES, _MEL_FRAMES)
        return grouped.permute(0, 3, 1, 2).reshape(batch, _MEL_FRAMES * bands, -1)


def _mdct_basis(channels: int) -> np.ndarray:
    """The lowest `channels` functions of an MDCT with a sine window over two frames, float32 [channels, 3840]."""
    hop = SAMPLES_PER_LATENT
    n = np.arange(2 * hop)
    k = np.arange(channels)[:, None]
    window = np.sin(math.pi / (2 * hop) * (n + 0.5))
    basis = window * np.cos(math.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
    return (basis * math.sqrt(2.0 / hop)).astype(np.float32)
