"""Keys, chords and melodies of the synthetic songs."""

from __future__ import annotations

import numpy as np

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 11)}  # minor: harmonic
TONICS = (0, 2, 4, 5, 7, 9)  # semitones above C: C, D, E, F, G, A

# Degrees of the scale (0 is the tonic), one chord a bar; the first of a song and its end are the tonic.
PROGRESSIONS = {
    "major": ((0, 3, 4, 0), (0, 4, 5, 3), (0, 5, 3, 4)),
    "minor": ((0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4)),
}


def triad(mode: str, degree: int) -> tuple[int, int, int]:
    """Semitones above the tonic of root, third and fifth, each folded into one octave."""
    scale = SCALES[mode]
    return tuple(scale[(degree + step) % 7] for step in (0, 2, 4))


def voiced_chord(tonic: int, mode: str, degree: int, lowest: int) -> list[int]:
    """MIDI notes of the triad in close position at or above `lowest`."""
    return sorted(lowest + (tonic + tone - lowest) % 12 for tone in triad(mode, degree))


def draw_melody(rng: np.random.Generator, tonic: int, mode: str, degrees: list[int], low: int, high: int) -> list[int]:
    """One MIDI note for each entry of `degrees` (the chord under it): steps of the scale, chord tones preferred."""
    scale = [note for note in range(low, high + 1) if (note - tonic) % 12 in SCALES[mode]]
    position = len(scale) // 2
    notes = []
    for degree in degrees:
        tones = {(tonic + tone) % 12 for tone in triad(mode, degree)}
        candidates = np.arange(max(0, position - 3), min(len(scale), position + 4))
        weights = np.array([(4.0 if scale[c] % 12 in tones else 1.0) / (1.0 + abs(c - position)) for c in candidates])
        position = int(rng.choice(candidates, p=weights / weights.sum()))
        notes.append(scale[position])
    return notes
