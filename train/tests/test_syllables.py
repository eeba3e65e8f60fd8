"""The tokenizer of sung syllables, and the lexicon behind it."""

from __future__ import annotations

import numpy as np
import pytest

from heartmula_train.music.lyrics import COMMON_WORDS, LEXICON, SYLLABLES, VOWELS, WIDE_LEXICON, WIDE_WORDS, draw_line
from heartmula_train.text.syllables import syllable_tokenizer

NAMES = ["slow", "happy", "verse"]


def test_syllables_are_cut_as_the_voice_sings_them() -> None:
    several = {word for word, vowels in WIDE_LEXICON.items() if len(vowels) > 1}
    assert {word.replace("-", "") for word in SYLLABLES} == several
    for word in SYLLABLES:
        assert word.count("-") + 1 == len(LEXICON[word.replace("-", "")]), word
    assert not COMMON_WORDS.keys() & LEXICON.keys()
    assert all(len(vowel) == 1 and vowel in VOWELS for vowel in COMMON_WORDS.values())


def test_the_kth_token_of_a_line_is_its_kth_syllable() -> None:
    singles = [word for word, vowels in WIDE_LEXICON.items() if len(vowels) == 1]
    tokenizer = syllable_tokenizer(singles, SYLLABLES, NAMES)
    rng = np.random.default_rng(8)
    for _ in range(200):
        line = draw_line(rng, int(rng.integers(4, 9)), WIDE_WORDS)
        tokens = tokenizer.encode(line.text)
        pieces = [tokenizer.decode([token]) for token in tokens.ids[1:]]
        assert len(pieces) == len(line.vowels), pieces
        assert "".join(pieces) == line.text
    for name in NAMES:
        assert len(tokenizer.encode(name).ids) == 2
    for text in ("[verse]\nblue moon\n\n", "Größe, 3 o'clock!"):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=True) == text


def test_pieces_that_no_merges_can_make_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same letters cut in two ways: a merge cannot know which word it is in."""
    monkeypatch.setattr("heartmula_train.text.syllables._MOST_TRIES", 20)
    with pytest.raises(ValueError, match="no merges were found"):
        syllable_tokenizer([], ["ab-ab", "aba-b"], [])
