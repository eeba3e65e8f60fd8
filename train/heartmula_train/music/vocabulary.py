"""vocabulary.json: what the kit's songs teach a language model, for programs that check lyrics and tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heartmula_train.codec.config import SAMPLE_RATE, SAMPLES_PER_CODE
from heartmula_train.music.plan import BARS_PER_LINE, BEAT_CODES, EXTRAS, GENRES, INSTRUMENTS, MODES, SECTIONS

_BEATS_PER_BAR = (3, 4)  # of a waltz, and of all others
VOCABULARY = "vocabulary.json"


def vocabulary(words: Sequence[str], min_seconds: float, max_seconds: float) -> dict[str, Any]:
    """Its content, for songs of these words and lengths."""
    one_of = [list(BEAT_CODES), list(MODES), list(GENRES), list(INSTRUMENTS)]
    code_seconds = SAMPLES_PER_CODE / SAMPLE_RATE

    def line_seconds(beat_codes: int) -> list[float]:
        return [round(BARS_PER_LINE * beats * beat_codes * code_seconds, 3) for beats in _BEATS_PER_BAR]

    return {
        "tags": [tag for group in one_of for tag in group] + list(EXTRAS),
        "one_of": one_of,
        "most_tags": len(one_of) + len(EXTRAS),
        "sections": list(SECTIONS),
        "languages": ["English"],
        "scripts": ["Latin"],
        "words": list(words),
        "seconds_per_line": {tempo: line_seconds(codes) for tempo, codes in BEAT_CODES.items()},
        "seconds": [min_seconds, max_seconds],
    }
