"""Spectra that the analyzer, the features of the residual VQ and the reports look at."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft

from heartmula_train.codec.config import SAMPLE_RATE


@lru_cache
def mel_filters(bands: int, fft: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Triangles of equal area, float32 [fft / 2 + 1, bands]; mel(f) = 2595 log10(1 + f / 700)."""
    mel_low, mel_high = (2595 * np.log10(1 + hz / 700) for hz in (low_hz, high_hz))
    edges = 700 * (10 ** (np.linspace(mel_low, mel_high, bands + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(fft, 1 / SAMPLE_RATE)[:, None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    # The lowest bands are narrower than a bin: they take the bin that is nearest to their middle.
    nearest = np.argmin(np.abs(hz - edges[None, 1:-1]), axis=0)
    empty = triangles.sum(0) == 0
    triangles[nearest[empty], np.flatnonzero(empty)] = 1.0
    return (triangles / triangles.sum(0)).astype(np.float32)


@lru_cache
def chroma_filters(fft: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Which pitch class a bin belongs to (C is 0), float32 [fft / 2 + 1, 12]."""
    hz = np.fft.rfftfreq(fft, 1 / SAMPLE_RATE)
    inside = (hz >= low_hz) & (hz <= high_hz)
    note = np.zeros(hz.shape)
    note[inside] = 69 + 12 * np.log2(hz[inside] / 440)
    nearest = np.round(note)
    weight = np.where(inside, np.exp(-0.5 * ((note - nearest) / 0.25) ** 2), 0.0)
    filters = np.zeros((hz.size, 12), np.float32)
    filters[np.arange(hz.size), nearest.astype(int) % 12] = weight
    return filters


def power_frames(mono: np.ndarray, fft: int, hop: int) -> np.ndarray:
    """Power of windows (Hann) centred on samples hop / 2 + hop t, float32 [T, fft / 2 + 1]; T = samples / hop."""
    frames = mono.shape[0] // hop
    before = fft // 2 - hop // 2
    padded = np.pad(mono.astype(np.float32), (before, fft))
    windows = np.lib.stride_tricks.sliding_window_view(padded, fft)[: frames * hop : hop]
    window = np.hanning(fft + 1)[:-1].astype(np.float32)
    spectrum = scipy.fft.rfft(windows * window, axis=1)
    return (spectrum.real**2 + spectrum.imag**2).astype(np.float32) / np.float32(np.square(window).sum())
