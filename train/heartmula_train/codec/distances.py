"""How far two waves are apart: losses of the autoencoder and the figures that are reported."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from heartmula_train.music.spectra import mel_filters

WINDOWS = (256, 512, 1024, 2048)
_MEL_BANDS = 80
_FLOOR = 1e-5


def magnitudes(samples: Tensor, fft: int) -> Tensor:
    """[B, S] -> [B, fft / 2 + 1, frames], hop fft / 4."""
    window = torch.hann_window(fft, device=samples.device)
    return torch.stft(samples, fft, fft // 4, window=window, return_complex=True).abs() / math.sqrt(fft)


def _log_mel(magnitude: Tensor, fft: int) -> Tensor:
    bands = min(_MEL_BANDS, fft // 16)
    filters = torch.from_numpy(mel_filters(bands, fft, 40.0, 20000.0)).to(magnitude.device)
    return torch.log(filters.T @ magnitude.square() + _FLOOR**2)


def spectral_losses(actual: Tensor, expected: Tensor) -> dict[str, Tensor]:
    """Spectral convergence, log-mel L1 and log-magnitude L1, each the mean over four window sizes; waves [B, S]."""
    convergence, log_mel, log_magnitude = [], [], []
    for fft in WINDOWS:
        a, b = magnitudes(actual, fft), magnitudes(expected, fft)
        convergence.append(torch.linalg.norm(a - b) / (torch.linalg.norm(b) + _FLOOR))
        log_mel.append((_log_mel(a, fft) - _log_mel(b, fft)).abs().mean() / 2)
        log_magnitude.append((torch.log(a + 1e-3) - torch.log(b + 1e-3)).abs().mean())
    parts = {"convergence": convergence, "log_mel": log_mel, "log_magnitude": log_magnitude}
    return {name: torch.stack(values).mean() for name, values in parts.items()}


def relative_l2(actual: Tensor, expected: Tensor) -> Tensor:
    """RMS of the difference over RMS of the expected wave."""
    return torch.linalg.norm(actual - expected) / (torch.linalg.norm(expected) + _FLOOR)


def log_mel_distance_db(actual: Tensor, expected: Tensor) -> float:
    """Mean absolute difference of log-mel levels in dB, window 2048."""
    a, b = (_log_mel(magnitudes(x, 2048), 2048) for x in (actual, expected))
    return float((a - b).abs().mean() * 10 / math.log(10))


def si_sdr_db(actual: Tensor, expected: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB."""
    scale = (actual * expected).sum() / expected.square().sum().clamp_min(1e-12)
    error = (actual - scale * expected).square().sum().clamp_min(1e-12)
    return float(10 * torch.log10((scale * expected).square().sum().clamp_min(1e-12) / error))
