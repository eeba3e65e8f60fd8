"""Measures tempo, mode, drums, brightness, sung vowels and the end of a song from its samples.

Linear classifiers (regularised discriminant analysis) on spectra; `fit_analyzer` makes analyzer.npz from ground truth.
Songs begin on a beat, as the synthetic ones do and a model trained on them does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from heartmula_train.codec.config import SAMPLE_RATE, SAMPLES_PER_CODE
from heartmula_train.music.lyrics import VOWELS
from heartmula_train.music.plan import BEAT_CODES
from heartmula_train.music.spectra import chroma_filters, mel_filters, power_frames

WEIGHTS = Path(__file__).with_name("analyzer.npz")
TEMPOS = tuple(BEAT_CODES)
MODES = ("major", "minor")
BEAT_LABELS = "-" + VOWELS

_HOP = 960  # 20 ms
_FFT = 2048
_MEL_BANDS = 64
_CHROMA_FFT, _CHROMA_HOP = 16384, 8192
_BEGIN_FRAMES, _END_FRAMES = 7, 13  # of the chroma: 1.2 s, 2.2 s
_LAGS = 120
_SILENT_DB = -40.0  # below the song's own level
_MIDDLE_OF_BEAT = (0.2, 0.8)
_BREATH = 0.92  # from here to the end of the beat


@dataclass(frozen=True)
class Analysis:
    """What was heard."""

    tempo: str
    mode: str
    drums: bool
    bright: bool
    vowels: str  # one for each beat on which somebody sings
    end_seconds: float  # when the last sound has died away
    ended: bool  # whether silence follows, or the song was cut off


@dataclass(frozen=True)
class Linear:
    """Scores x @ weight + bias, a column a class."""

    weight: np.ndarray
    bias: np.ndarray

    def classify(self, x: np.ndarray) -> np.ndarray:
        """[n, features] -> index of the best class, [n]."""
        return np.argmax(x @ self.weight + self.bias, axis=-1)

    @staticmethod
    def fit(x: np.ndarray, labels: np.ndarray, ridge: float = 1e-2) -> Linear:
        """Discriminant analysis with one covariance for all classes, `ridge` of its mean variance added."""
        classes = int(labels.max()) + 1
        means = np.stack([x[labels == c].mean(0) for c in range(classes)])
        centred = x - means[labels]
        covariance = centred.T @ centred / len(x)
        covariance += ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        weight = np.linalg.solve(covariance, means.T)
        priors = np.log(np.bincount(labels, minlength=classes) / len(x))
        return Linear(weight, priors - 0.5 * np.einsum("cd,dc->c", means, weight))


@dataclass(frozen=True)
class Features:
    """Everything that the classifiers see of a song."""

    log_mel: np.ndarray  # [T, 64], T at 50 Hz, relative to the song's mean level
    chroma: np.ndarray  # [3, 12]: of the whole song, its begin and its end, where the tonic sounds; rows sum to 1

    @staticmethod
    def of(song: np.ndarray) -> Features:
        """song [2, samples]."""
        mono = song.mean(0)
        mel = power_frames(mono, _FFT, _HOP) @ mel_filters(_MEL_BANDS, _FFT, 60.0, 16000.0)
        log_mel = np.log(mel / mel.mean() + 1e-5)
        chroma = np.sqrt(power_frames(mono, _CHROMA_FFT, _CHROMA_HOP)) @ chroma_filters(_CHROMA_FFT, 200.0, 1200.0)
        parts = np.stack([part.sum(0) for part in (chroma, chroma[:_BEGIN_FRAMES], chroma[-_END_FRAMES:])])
        return Features(log_mel, parts / (parts.sum(1, keepdims=True) + 1e-9))

    def onsets(self) -> np.ndarray:
        """How much louder each band gets from frame to frame: low, middle and high bands, [3, T]."""
        rise = np.maximum(np.diff(self.log_mel, axis=0, prepend=self.log_mel[:1]), 0.0)
        return np.stack([part.mean(1) for part in np.split(rise, (20, 46), axis=1)])

    def rhythm(self) -> np.ndarray:
        """Autocorrelation of the onsets of the three ranges at 1 to 120 frames, [360]."""
        onsets = self.onsets()
        centred = onsets - onsets.mean(1, keepdims=True)
        spectrum = np.abs(np.fft.rfft(centred, 2 * centred.shape[1])) ** 2
        correlation = np.fft.irfft(spectrum)[:, : _LAGS + 1]
        return (correlation[:, 1:] / (correlation[:, :1] + 1e-9)).reshape(-1)

    def percussion(self) -> np.ndarray:
        """How fast each band rises and falls: quantiles of its change from frame to frame, [6 * 64]."""
        change = np.diff(self.log_mel, axis=0)
        return np.quantile(change, (0.02, 0.05, 0.1, 0.9, 0.95, 0.98), axis=0).reshape(-1)

    def colour(self) -> np.ndarray:
        """Median level of each band, [64]."""
        return np.median(self.log_mel, axis=0)

    def beats(self, tempo: str) -> np.ndarray:
        """Of each band in the middle of each beat, [beats, 4 * 64].

        Its mean level, the same against the song's, how much it moves, and its level against the end of the beat,
        where the voice takes breath.
        """
        frames = BEAT_CODES[tempo] * SAMPLES_PER_CODE // _HOP
        count = self.log_mel.shape[0] // frames
        beats = self.log_mel[: count * frames].reshape(count, frames, -1)
        begin, end, breath = (int(part * frames) for part in (*_MIDDLE_OF_BEAT, _BREATH))
        middle = beats[:, begin:end]
        level = middle.mean(1)
        against_song, against_breath = level - np.median(level, axis=0), level - beats[:, breath:].mean(1)
        return np.concatenate((level, against_song, middle.std(1), against_breath), axis=1)


def end_of(song: np.ndarray) -> tuple[float, bool]:
    """Seconds until the last sound, and whether at least two silent frames follow."""
    frames = song.shape[1] // _HOP
    power = np.square(song[:, : frames * _HOP].reshape(2, frames, _HOP), dtype=np.float64).mean((0, 2))
    sounding = np.flatnonzero(power > power.mean() * 10 ** (_SILENT_DB / 10))
    last = int(sounding[-1]) + 1 if sounding.size else 0
    return last * _HOP / SAMPLE_RATE, last <= frames - 2


def centred(chroma: np.ndarray) -> np.ndarray:
    """Rows [..., 12] without their mean, of length 1."""
    rows = chroma - chroma.mean(-1, keepdims=True)
    return rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + 1e-9)


def key_mode(templates: np.ndarray, chroma: np.ndarray) -> int:
    """The mode whose templates [2, 3, 12] (tonic first) correlate best with `chroma` [3, 12] at any tonic."""
    rolled = np.stack([np.roll(centred(chroma), -tonic, axis=-1) for tonic in range(12)])  # [12, 3, 12]
    return int(np.argmax(np.einsum("mpc,tpc->tm", templates, rolled).max(0)))


@lru_cache
def _models() -> tuple[dict[str, Linear], np.ndarray]:
    with np.load(WEIGHTS) as stored:
        names = ("tempo", "drums", "bright", "beat")
        return {n: Linear(stored[f"{n}.weight"], stored[f"{n}.bias"]) for n in names}, stored["mode.templates"]


def analyze(song: np.ndarray) -> Analysis:
    """song float32 [2, samples] at 48 kHz."""
    models, templates = _models()
    features = Features.of(song)

    def choose(name: str, x: np.ndarray, labels: Sequence) -> str | bool:
        return labels[int(models[name].classify(x[None])[0])]

    tempo = str(choose("tempo", features.rhythm(), TEMPOS))
    beats = models["beat"].classify(features.beats(tempo))
    end_seconds, ended = end_of(song)
    return Analysis(
        tempo=tempo,
        mode=MODES[key_mode(templates, features.chroma)],
        drums=bool(choose("drums", features.percussion(), (False, True))),
        bright=bool(choose("bright", features.colour(), (False, True))),
        vowels="".join(BEAT_LABELS[b] for b in beats).replace("-", ""),
        end_seconds=end_seconds,
        ended=ended,
    )
