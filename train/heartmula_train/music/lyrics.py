"""Lyrics of common English words, with the vowel that the voice sings for each syllable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VOWELS = "aeiou"

# Word -> one vowel a syllable, as a singer would hold it (moon: u, light: a, river: i-e).
LEXICON = {
    "star": "a", "heart": "a", "dark": "a", "far": "a", "love": "a", "sun": "a", "sky": "a", "light": "a", "night": "a",
    "bright": "a", "fire": "a", "down": "a", "sound": "a", "time": "a", "one": "a", "and": "a", "my": "a", "but": "a",
    "bell": "e", "red": "e", "rest": "e", "then": "e", "when": "e", "day": "e", "rain": "e", "say": "e", "wave": "e",
    "there": "e", "end": "e", "they": "e", "air": "e", "breath": "e", "stay": "e", "play": "e", "again": "ae",
    "sea": "i", "dream": "i", "sleep": "i", "free": "i", "green": "i", "me": "i", "we": "i", "deep": "i", "wind": "i",
    "sing": "i", "in": "i", "still": "i", "feel": "i", "leave": "i", "street": "i", "hill": "i", "spring": "i",
    "gold": "o", "home": "o", "snow": "o", "road": "o", "so": "o", "cold": "o", "go": "o", "slow": "o", "old": "o",
    "stone": "o", "hope": "o", "low": "o", "more": "o", "door": "o", "storm": "o", "song": "o", "long": "o", "all": "o",
    "moon": "u", "blue": "u", "you": "u", "soon": "u", "true": "u", "to": "u", "through": "u", "new": "u", "room": "u",
    "move": "u", "cool": "u", "who": "u", "good": "u", "look": "u", "full": "u", "would": "u", "flew": "u",
    "river": "ie", "summer": "ae", "winter": "ie", "morning": "oi", "golden": "oe", "open": "oe", "over": "oe",
    "under": "ae", "never": "ee", "ever": "ee", "little": "io", "shadow": "ao", "window": "io", "garden": "ae",
    "water": "oe", "echo": "eo", "away": "ae", "believe": "ii", "follow": "oo", "dancing": "ai", "falling": "oi",
    "silver": "ie", "evening": "ii", "movie": "ui", "music": "ui", "beautiful": "uiu", "remember": "iee",
    "tomorrow": "uoo", "together": "uee", "radio": "eio", "forever": "oee",
}  # fmt: skip

_WORDS = sorted(LEXICON)


@dataclass(frozen=True)
class Line:
    """A sung line: its words, and one vowel a syllable."""

    text: str
    vowels: str


def draw_line(rng: np.random.Generator, syllables: int) -> Line:
    """Words with exactly `syllables` syllables in all."""
    words: list[str] = []
    vowels = ""
    while len(vowels) < syllables:
        word = _WORDS[int(rng.integers(len(_WORDS)))]
        if len(vowels) + len(LEXICON[word]) <= syllables:
            words.append(word)
            vowels += LEXICON[word]
    return Line(" ".join(words), vowels)
