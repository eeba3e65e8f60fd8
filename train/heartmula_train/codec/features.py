"""What the residual VQ quantizes: log-mel and chroma at 12.5 Hz, which a small language model can learn.

A code frame holds two latent frames (40 ms) of 52 log-mel bands and 12 pitch classes each.
"""

from __future__ import annotations

import numpy as np

from heartmula_train.codec.config import LATENTS_PER_CODE, SAMPLES_PER_LATENT
from heartmula_train.music.spectra import chroma_filters, mel_filters, power_frames

MEL_BANDS = 52
DIM = LATENTS_PER_CODE * (MEL_BANDS + 12)
_MEL_FFT, _CHROMA_FFT = 4096, 8192


def song_features(song: np.ndarray) -> np.ndarray:
    """song [2, S] -> float32 [S / 3840, 128], not yet standardised."""
    mono = song.mean(0)
    mel = power_frames(mono, _MEL_FFT, SAMPLES_PER_LATENT) @ mel_filters(MEL_BANDS, _MEL_FFT, 50.0, 16000.0)
    tones = np.sqrt(power_frames(mono, _CHROMA_FFT, SAMPLES_PER_LATENT)) @ chroma_filters(_CHROMA_FFT, 100.0, 1500.0)
    chroma = tones / (tones.mean(1, keepdims=True) + 0.01)
    latent_rate = np.concatenate((np.log(mel + 1e-7), chroma), axis=1)  # [2 T, 64]
    frames = latent_rate.shape[0] // LATENTS_PER_CODE
    return latent_rate[: frames * LATENTS_PER_CODE].reshape(frames, DIM).astype(np.float32)
