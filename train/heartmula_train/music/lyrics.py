"""Lyrics of common English words, with the vowel that the voice sings for each syllable."""

from __future__ import annotations

from collections.abc import Sequence
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

# Short words that everybody writes and LEXICON lacks.
COMMON_WORDS = {
    "the": "e", "a": "a", "i": "a", "of": "o", "on": "o", "for": "o", "or": "o", "not": "o", "was": "o", "what": "o",
    "is": "i", "it": "i", "this": "i", "with": "i", "will": "i", "his": "i", "she": "i", "he": "i", "be": "i",
    "see": "i", "tree": "i", "here": "i", "if": "i", "as": "a", "at": "a", "that": "a", "are": "a", "can": "a",
    "from": "a", "come": "a", "life": "a", "eyes": "a", "mind": "a", "world": "e", "her": "e", "let": "e",
    "where": "e", "girl": "e", "by": "a", "our": "a", "us": "a", "how": "a", "now": "a", "like": "a", "no": "o",
    "your": "o", "know": "o", "oh": "o", "boy": "o", "show": "o", "do": "u", "too": "u", "la": "a", "na": "a",
    "up": "a", "out": "a", "just": "a", "have": "a", "said": "e", "hand": "a", "back": "a",
}  # fmt: skip
WIDE_LEXICON = {**LEXICON, **COMMON_WORDS}

# Words of several syllables, cut into as many pieces as they have vowels.
SYLLABLES = [
    "a-gain", "ri-ver", "sum-mer", "win-ter", "mor-ning", "gol-den", "o-pen", "o-ver", "un-der", "ne-ver", "e-ver",
    "lit-tle", "sha-dow", "win-dow", "gar-den", "wa-ter", "e-cho", "a-way", "be-lieve", "fol-low", "dan-cing",
    "fal-ling", "sil-ver", "e-vening", "mo-vie", "mu-sic", "beau-ti-ful", "re-mem-ber", "to-mor-row", "to-ge-ther",
    "ra-di-o", "for-e-ver",
]  # fmt: skip

# What lines are drawn from. The analyzer's songs and the evaluation's are drawn from WORDS.
WORDS, WIDE_WORDS = sorted(LEXICON), sorted(WIDE_LEXICON)


@dataclass(frozen=True)
class Line:
    """A sung line: its words, and one vowel a syllable."""

    text: str
    vowels: str


def draw_line(rng: np.random.Generator, syllables: int, known: Sequence[str] = WORDS) -> Line:
    """Words, among those that are `known`, with exactly `syllables` syllables in all."""
    words: list[str] = []
    vowels = ""
    while len(vowels) < syllables:
        word = known[int(rng.integers(len(known)))]
        if len(vowels) + len(WIDE_LEXICON[word]) <= syllables:
            words.append(word)
            vowels += WIDE_LEXICON[word]
    return Line(" ".join(words), vowels)
