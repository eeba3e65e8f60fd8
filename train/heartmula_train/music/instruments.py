"""Notes of every instrument, the voice and the drums: mono float32 at 48 kHz, computed once and cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import butter, sosfilt

from heartmula_train.codec.config import SAMPLE_RATE

_LONGEST = 4 * 12 * 3840  # samples: a bar of four beats at the slowest tempo
_RELEASE = int(0.06 * SAMPLE_RATE)
_FADE = (0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, _RELEASE))).astype(np.float32)


def frequency_of(note: int) -> float:
    """Hz of a MIDI note."""
    return 440.0 * 2.0 ** ((note - 69) / 12)


def _held(wave: np.ndarray, length: int) -> np.ndarray:
    """The first `length` samples of a wave, and a release after them."""
    note = wave[: length + _RELEASE].copy()
    note[length:] *= _FADE
    return note


def _partials(z: np.ndarray, coefficients: list[complex]) -> np.ndarray:
    """Imaginary part of the sum of c_k z^k, k = 1, 2, ..., by Horner's rule."""
    total = np.zeros_like(z)
    for coefficient in reversed(coefficients):
        total += np.complex64(coefficient)
        total *= z
    return total.imag


@dataclass(frozen=True)
class Timbre:
    """Partials k = 1, 2, ... of strength k^-tilt; partial k decays by exp(-t (decay + decay_slope k))."""

    tilt: float
    partials: int
    attack_s: float
    decay: float = 0.0
    decay_slope: float = 0.0
    detune: float = 0.0  # of a second voice, relative
    strengths: tuple[float, ...] = ()  # instead of the power law
    top_hz: float = 16000.0
    level: float = 1.0


TIMBRES = {
    "piano": Timbre(tilt=1.6, partials=16, attack_s=0.004, decay=0.5, decay_slope=0.25, top_hz=4000.0, level=1.1),
    "organ": Timbre(
        tilt=0.0, partials=8, attack_s=0.02, strengths=(1.0, 0.8, 0.5, 0.4, 0.0, 0.2, 0.0, 0.15), level=0.5
    ),
    "strings": Timbre(tilt=1.5, partials=16, attack_s=0.12, detune=0.004, top_hz=4000.0, level=0.6),
    "synth": Timbre(tilt=0.8, partials=60, attack_s=0.005, detune=0.006, level=0.45),
    "guitar": Timbre(tilt=0.7, partials=60, attack_s=0.002, decay=0.7, decay_slope=0.06, level=0.6),
    "bass": Timbre(tilt=1.4, partials=10, attack_s=0.006, decay=0.4, decay_slope=0.3, top_hz=1500.0, level=1.2),
}


def tone(instrument: str, note: int, length: int) -> np.ndarray:
    """A note held for `length` samples, release included in the result."""
    return _held(_tone(instrument, note), length)


@lru_cache(None)
def _tone(instrument: str, note: int) -> np.ndarray:
    timbre = TIMBRES[instrument]
    seconds = np.arange(_LONGEST + _RELEASE) / SAMPLE_RATE
    frequency = frequency_of(note)
    count = min(timbre.partials, int(timbre.top_hz / frequency))
    strengths = timbre.strengths or tuple(k**-timbre.tilt for k in range(1, count + 1))
    # Partial k starts at phase 0.7 k^2, so that peaks do not pile up.
    coefficients = [s * np.exp(0.7j * k * k) for k, s in enumerate(strengths[:count], start=1)]
    wave = np.zeros(seconds.shape, np.float32)
    for factor in (1.0, 1.0 + timbre.detune) if timbre.detune else (1.0,):
        rotation = 2j * np.pi * frequency * factor - timbre.decay_slope
        wave += _partials(np.exp(rotation * seconds).astype(np.complex64), coefficients)
    attack = np.minimum(1.0, seconds / timbre.attack_s)
    return (0.2 * timbre.level * attack * np.exp(-timbre.decay * seconds) * wave).astype(np.float32)


# Centre (Hz), bandwidth (Hz) and strength of four formants.
_FORMANTS = {
    "a": ((800, 90, 1.0), (1250, 100, 0.8), (2600, 140, 0.25), (3500, 200, 0.15)),
    "e": ((500, 70, 1.0), (1900, 110, 0.7), (2600, 140, 0.4), (3500, 200, 0.15)),
    "i": ((300, 60, 1.0), (2350, 110, 0.7), (3000, 150, 0.5), (3700, 200, 0.2)),
    "o": ((570, 70, 1.0), (950, 80, 0.8), (2500, 140, 0.1), (3400, 200, 0.06)),
    "u": ((310, 60, 1.0), (680, 80, 0.45), (2300, 140, 0.06), (3300, 200, 0.04)),
}
_VIBRATO_HZ, _VIBRATO_DEPTH = 5.5, 0.008


_VOICE_ATTACK_S = 0.03
_VOICE_TOP_HZ = 5000.0


def sung(vowel: str, note: int, length: int) -> np.ndarray:
    """A syllable: a harmonic source with vibrato, shaped by the vowel's formants."""
    return _held(_sung(vowel, note), length)


@lru_cache(None)
def _sung(vowel: str, note: int) -> np.ndarray:
    seconds = np.arange(_LONGEST // 4 + _RELEASE) / SAMPLE_RATE
    frequency = frequency_of(note)
    wobble = _VIBRATO_DEPTH / _VIBRATO_HZ * (1.0 - np.cos(2 * np.pi * _VIBRATO_HZ * seconds)) / (2 * np.pi)
    z = np.exp(2j * np.pi * frequency * (seconds + wobble)).astype(np.complex64)
    harmonics = range(1, int(_VOICE_TOP_HZ / frequency) + 1)
    wave = _partials(z, [_formant_gain(vowel, k * frequency) * k**-0.5 * np.exp(0.7j * k * k) for k in harmonics])
    wave /= np.sqrt(np.mean(wave**2))
    return (0.28 * np.minimum(1.0, seconds / _VOICE_ATTACK_S) * wave).astype(np.float32)


def _formant_gain(vowel: str, frequency: float) -> float:
    return sum(s / (1.0 + ((frequency - centre) / width) ** 2) ** 0.5 for centre, width, s in _FORMANTS[vowel])


def _noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE))


def _kick() -> np.ndarray:
    seconds = np.arange(int(0.28 * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * (50 * seconds + 6.0 * (1 - np.exp(-seconds * 25)))
    click = np.exp(-seconds * 400) * _noise(0.28, 1)
    return 0.9 * np.sin(phase) * np.exp(-seconds * 11) + 0.15 * click


def _snare() -> np.ndarray:
    seconds = np.arange(int(0.22 * SAMPLE_RATE)) / SAMPLE_RATE
    rattle = sosfilt(butter(2, 1800, "highpass", fs=SAMPLE_RATE, output="sos"), _noise(0.22, 2))
    return 0.35 * np.exp(-seconds * 20) * rattle + 0.3 * np.exp(-seconds * 25) * np.sin(2 * np.pi * 190 * seconds)


def _hat() -> np.ndarray:
    seconds = np.arange(int(0.09 * SAMPLE_RATE)) / SAMPLE_RATE
    hiss = sosfilt(butter(4, 7000, "highpass", fs=SAMPLE_RATE, output="sos"), _noise(0.09, 3))
    return 0.4 * np.exp(-seconds * 55) * hiss


_DRUMS: dict[str, Callable[[], np.ndarray]] = {"kick": _kick, "snare": _snare, "hat": _hat}


@lru_cache
def drum(name: str) -> np.ndarray:
    """One stroke."""
    return _DRUMS[name]().astype(np.float32)
