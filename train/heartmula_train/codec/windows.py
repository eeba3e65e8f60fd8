"""How a song is cut into windows of 29.76 s and joined again (codec.md A3, A7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heartmula_train.codec.config import LATENTS_PER_CODE, SAMPLES_PER_LATENT

WINDOW_CODES = 372
HOP_CODES = 320
OVERLAP_CODES = WINDOW_CODES - HOP_CODES
WINDOW_LATENTS = WINDOW_CODES * LATENTS_PER_CODE
OVERLAP_LATENTS = OVERLAP_CODES * LATENTS_PER_CODE
FADE_SAMPLES = OVERLAP_LATENTS * SAMPLES_PER_LATENT


@dataclass(frozen=True)
class WindowPlan:
    """Window w begins at code frame 320 w of the song repeated cyclically."""

    windows: int
    samples: int


def plan_windows(frames: int, compat: bool = False) -> WindowPlan:
    """`compat` keeps the reference's fault: some lengths lose their last 4.16 s."""
    padded = max(frames, WINDOW_CODES)
    if not compat or (padded - 2 * OVERLAP_CODES) % HOP_CODES > 0:
        padded = -(-(padded - OVERLAP_CODES) // HOP_CODES) * HOP_CODES + OVERLAP_CODES
    windows = (padded - HOP_CODES) // HOP_CODES + 1
    target = int(frames / 12.5 * 48000)  # in float64: for some lengths one less than 3840 a frame
    window_samples = WINDOW_LATENTS * SAMPLES_PER_LATENT
    return WindowPlan(windows, min(target, window_samples + (windows - 1) * (window_samples - FADE_SAMPLES)))


def join_windows(windows: list[np.ndarray], samples: int) -> np.ndarray:
    """Cross-fades windows [2, 1428480] in float64 and cuts to `samples`."""
    song = windows[0].astype(np.float32)
    weight = np.linspace(0.0, 1.0, FADE_SAMPLES)
    for window in windows[1:]:
        faded = song[:, -FADE_SAMPLES:] * (1.0 - weight) + window[:, :FADE_SAMPLES] * weight
        song = np.concatenate((song[:, :-FADE_SAMPLES], faded.astype(np.float32), window[:, FADE_SAMPLES:]), axis=1)
    return song[:, :samples]
