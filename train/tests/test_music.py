"""Synthetic songs: same seed, same song; lengths; level; and what the analyzer hears."""

from __future__ import annotations

import numpy as np
import pytest

from heartmula_train.codec.config import SAMPLE_RATE, SAMPLES_PER_CODE
from heartmula_train.music import theory
from heartmula_train.music.analyzer import analyze
from heartmula_train.music.lyrics import LEXICON, VOWELS, draw_line
from heartmula_train.music.plan import GENRES, INSTRUMENTS, MAX_SECONDS, MIN_SECONDS, draw_plan
from heartmula_train.music.render import PEAK, render
from heartmula_train.music.report_analyzer import edit_distance, end_agrees

SEED = 77
SHORT = 12.0


def test_same_seed_same_song() -> None:
    plan = draw_plan(SEED, 3, max_seconds=SHORT)
    assert plan == draw_plan(SEED, 3, max_seconds=SHORT)
    first, second = render(plan), render(plan)
    assert np.array_equal(first, second)
    assert draw_plan(SEED, 4, max_seconds=SHORT) != plan


def test_lengths_are_whole_code_frames_within_the_range() -> None:
    plans = [draw_plan(SEED, index) for index in range(500)]
    for plan in plans:
        assert MIN_SECONDS <= plan.samples / SAMPLE_RATE <= MAX_SECONDS
        assert plan.samples % SAMPLES_PER_CODE == 0
        assert len(plan.beat_vowels) == plan.bars * plan.beats_per_bar
    assert any(plan.samples / SAMPLE_RATE > 29.76 for plan in plans)
    assert {plan.genre for plan in plans} == set(GENRES)
    assert {plan.instrument for plan in plans} == set(INSTRUMENTS)


def test_tags_and_lyrics_name_what_is_drawn() -> None:
    plan = draw_plan(SEED, 5)
    tags = plan.tags.split(",")
    assert {plan.tempo, plan.mood, plan.genre, plan.instrument} <= set(tags)
    assert ("drums" in tags) == plan.drums
    assert ("bass" in tags) == plan.bass
    sung = [word for line in plan.lyrics.splitlines() if not line.startswith("[") for word in line.split()]
    assert "".join(LEXICON[word] for word in sung) == plan.beat_vowels.replace("-", "")


def test_songs_have_level_and_do_not_clip() -> None:
    for index in range(6):
        plan = draw_plan(SEED, index, max_seconds=SHORT)
        song = render(plan)
        assert song.dtype == np.float32
        assert song.shape == (2, plan.samples)
        assert 0.3 < np.abs(song).max() <= PEAK + 1e-6
        assert not np.array_equal(song[0], song[1])
        assert np.abs(song[:, -SAMPLES_PER_CODE:]).max() < 1e-2, "the tail has died away"


def test_analyzer_hears_what_was_drawn() -> None:
    """The committed accuracy (analyzer_accuracy.json) is measured over many more songs."""
    right = dict.fromkeys(("tempo", "mode", "drums", "bright", "end"), 0)
    songs, syllables, errors = 12, 0, 0
    for index in range(songs):
        plan = draw_plan(SEED, index, max_seconds=SHORT)
        heard = analyze(render(plan))
        for name in ("tempo", "mode", "drums", "bright"):
            right[name] += getattr(heard, name) == getattr(plan, name)
        right["end"] += end_agrees(heard, plan)
        sung = plan.beat_vowels.replace("-", "")
        syllables, errors = syllables + len(sung), errors + edit_distance(sung, heard.vowels)
    assert all(count >= songs - 1 for count in right.values()), right
    assert errors <= 0.1 * syllables


@pytest.mark.parametrize(("a", "b", "expected"), [("", "ab", 2), ("abc", "axc", 1), ("abc", "bc", 1), ("ab", "ab", 0)])
def test_edit_distance(a: str, b: str, expected: int) -> None:
    assert edit_distance(a, b) == expected


def test_harmony_stays_in_the_scale() -> None:
    rng = np.random.default_rng(1)
    for mode, scale in theory.SCALES.items():
        for degree in range(7):
            assert set(theory.triad(mode, degree)) <= set(scale)
        melody = theory.draw_melody(rng, 2, mode, [0, 3, 4, 0] * 4, 50, 64)
        assert all(50 <= note <= 64 and (note - 2) % 12 in scale for note in melody)


def test_lines_have_the_syllables_asked_for() -> None:
    rng = np.random.default_rng(2)
    for syllables in range(1, 9):
        line = draw_line(rng, syllables)
        assert len(line.vowels) == syllables
        assert set(line.vowels) <= set(VOWELS)
