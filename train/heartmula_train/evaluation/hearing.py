"""What the analyzer hears in a song, against the plan that the song should follow."""

from __future__ import annotations

import numpy as np

from heartmula_train.codec.config import SAMPLE_RATE
from heartmula_train.music.analyzer import Analysis, analyze
from heartmula_train.music.plan import SongPlan
from heartmula_train.music.report_analyzer import edit_distance

ATTRIBUTES = ("tempo", "mode", "drums")
_SHORTEST_S = 4.0  # the analyzer looks for periods of up to 2.4 s
_SILENT_RMS = 1e-3


def hear(song: np.ndarray) -> Analysis | None:
    """song float32 [2, samples]; a short one is heard with silence after it. None: there is no sound in it."""
    missing = int(_SHORTEST_S * SAMPLE_RATE) - song.shape[1]
    if song.shape[1] == 0 or not np.isfinite(song).all() or np.sqrt(np.mean(np.square(song))) < _SILENT_RMS:
        return None
    return analyze(np.pad(song, ((0, 0), (0, missing))) if missing > 0 else song)


def heard_attributes(heard: Analysis | None) -> dict[str, str | bool | None]:
    """The attributes that are compared, for a result's row."""
    return {name: getattr(heard, name, None) for name in ATTRIBUTES}


def agreement(heard: Analysis | None, plan: SongPlan) -> dict[str, bool]:
    """Whether each attribute is the plan's; in silence none is."""
    return {name: heard is not None and getattr(heard, name) == getattr(plan, name) for name in ATTRIBUTES}


def vowel_errors(heard: Analysis | None, plan: SongPlan) -> tuple[int, int]:
    """Insertions, deletions and replacements from the plan's vowels to those heard, and the number of the plan's."""
    sung = plan.beat_vowels.replace("-", "")
    return edit_distance(sung, heard.vowels if heard else ""), len(sung)
