"""Frechet distance between two sets of songs, over statistics of their log-mel spectra.

Usage: python -m heartmula_train.evaluation.frechet plans:0:60 SONGS --yardstick plans:60:60 --out RESULT.json

A set is a folder of WAV files or `plans:FIRST:COUNT`, the synthesized evaluation songs. A song gives one vector a
second: of 32 mel bands (40 Hz to 16 kHz, both channels mixed) the mean level in dB and its deviation over the second's
frames, 64 numbers. Each set is a Gaussian with these vectors' mean and covariance, a twentieth of which is shrunk to
its diagonal: with a few hundred seconds a set, the smallest of 64 eigenvalues would be noise. The result is
|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) in dB^2. Two sets of the same music are not at zero either: the yardstick is
the distance of the first set to other songs of its kind.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heartmula_train.codec.config import SAMPLE_RATE
from heartmula_train.evaluation.plans import EVALUATION_SEED, evaluation_plan
from heartmula_train.evaluation.program import read_wav
from heartmula_train.evaluation.record import command_parser, provenance, write_result
from heartmula_train.music.render import render
from heartmula_train.music.spectra import mel_filters, power_frames

BANDS = 32
SHRINKAGE = 0.05
_FFT, _HOP = 2048, 960
_FRAMES_PER_SECOND = SAMPLE_RATE // _HOP
_FLOOR = 1e-6  # of power: 60 dB below full scale, 40 below a song's level


def song_vectors(song: np.ndarray) -> np.ndarray:
    """song [2, samples] -> float64 [whole seconds, 64]: mean and deviation of each band's level in dB."""
    power = power_frames(song.mean(0), _FFT, _HOP) @ mel_filters(BANDS, _FFT, 40.0, 16000.0)
    level = 10 * np.log10(power.astype(np.float64) + _FLOOR)
    seconds = level.shape[0] // _FRAMES_PER_SECOND
    by_second = level[: seconds * _FRAMES_PER_SECOND].reshape(seconds, _FRAMES_PER_SECOND, BANDS)
    return np.concatenate((by_second.mean(1), by_second.std(1)), axis=1)


@dataclass(frozen=True)
class Gaussian:
    """mean [d] and covariance [d, d], float64."""

    mean: np.ndarray
    covariance: np.ndarray

    @staticmethod
    def of(vectors: np.ndarray, shrinkage: float = SHRINKAGE) -> Gaussian:
        """vectors [n, d], n at least 2; off the diagonal the covariance is multiplied by 1 - shrinkage."""
        if len(vectors) < 2:
            raise ValueError("a set of songs needs at least two seconds of music")
        covariance = np.cov(vectors, rowvar=False)
        diagonal = np.diag(np.diag(covariance))
        return Gaussian(vectors.mean(0), (1 - shrinkage) * covariance + shrinkage * diagonal)


def _root(matrix: np.ndarray) -> np.ndarray:
    """Square root of a symmetric matrix without negative eigenvalues (but for rounding)."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared 2-Wasserstein distance of two Gaussians.

    The trace of (C1 C2)^(1/2) is that of (R C2 R)^(1/2) with R the root of C1, which is symmetric.
    """
    root = _root(a.covariance)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b.covariance @ root), 0.0)).sum()
    difference = a.mean - b.mean
    trace = np.trace(a.covariance) + np.trace(b.covariance)
    return float(max(0.0, difference @ difference + trace - 2 * shared))


def songs_of(source: str) -> Iterator[np.ndarray]:
    """Songs [2, samples] of a folder of WAV files, or of `plans:FIRST:COUNT`."""
    if match := re.fullmatch(r"plans:(\d+):(\d+)", source):
        first, songs = int(match[1]), int(match[2])
        yield from (render(evaluation_plan(number)) for number in range(first, first + songs))
        return
    paths = sorted(Path(source).glob("*.wav"))
    if not paths:
        raise ValueError(f"{source}: holds no WAV files; a set of songs is a folder of them or plans:FIRST:COUNT")
    yield from (read_wav(path) for path in paths)


def vectors_of(songs: Iterable[np.ndarray]) -> np.ndarray:
    """All seconds of all songs, [n, 64]."""
    return np.concatenate([song_vectors(song) for song in songs])


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("frechet", __doc__)
    parser.add_argument("first", help="a folder of WAV files, or plans:FIRST:COUNT")
    parser.add_argument("second", help="likewise")
    parser.add_argument("--yardstick", help="songs of the first set's kind")
    parser.add_argument("--out", type=Path, help="the JSON result")
    options = parser.parse_args(arguments)
    sources = [options.first, options.second, *([options.yardstick] if options.yardstick else [])]
    try:
        vectors = [vectors_of(songs_of(source)) for source in sources]
        gaussians = [Gaussian.of(x) for x in vectors]
    except (ValueError, OSError) as error:
        print(f"frechet: {error}", file=sys.stderr)
        return 2
    distances = {"distance": frechet_distance(gaussians[0], gaussians[1])}
    if options.yardstick:
        distances["yardstick"] = frechet_distance(gaussians[0], gaussians[2])
    result = {
        **provenance("frechet", arguments),
        "settings": {"bands": BANDS, "shrinkage": SHRINKAGE, "plans_seed": EVALUATION_SEED, "unit": "dB^2"},
        "seconds": [len(x) for x in vectors],
        "totals": {name: round(value, 2) for name, value in distances.items()},
    }
    write_result(result, options.out)
    print(", ".join(f"{name} {value:.2f} dB^2" for name, value in distances.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
