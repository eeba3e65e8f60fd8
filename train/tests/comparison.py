"""Distances as the golden cases' README states them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Distance:
    """Relative to the reference's RMS."""

    rms: float
    greatest: float


def distance(actual: np.ndarray, expected: np.ndarray) -> Distance:
    """RMS of the difference and its greatest value, over the RMS of `expected`."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    difference = actual.astype(np.float64) - expected.astype(np.float64)
    scale = np.sqrt(np.mean(expected.astype(np.float64) ** 2))
    return Distance(float(np.sqrt(np.mean(difference**2)) / scale), float(np.abs(difference).max() / scale))
