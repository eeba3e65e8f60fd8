"""A song as a row of positions: text, codes, and labels for heads that only the training has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.music import theory
from heartmula_train.music.lyrics import VOWELS
from heartmula_train.music.plan import BEAT_CODES, MODES, SongPlan
from heartmula_train.text.prompt import GenConfig, make_prompt

FRAME, REFERENCE, PAD = -1, -2, -3  # in `tokens`, where there is no text
NONE = 255  # a label that does not count

# What is to be counted, and the number of its values. Of the frame that follows a position: beat of the song, phase in
# the beat, vowel (0: none), chord (0: none, else 1 + root, minor 12 more), key, beats left. Beat and vowel also of each
# syllable in the text.
LABELS = {"beat": 96, "phase": 12, "vowel": 1 + len(VOWELS), "chord": 25, "key": 12, "left": 32}
_BEAT, _VOWEL = (list(LABELS).index(name) for name in ("beat", "vowel"))
_SUNG = "-" + VOWELS


@dataclass(frozen=True)
class Row:
    """tokens [T] int16, codes [T, 8] uint8 (0 in the text), labels [T, 6] uint8 of what follows a position."""

    tokens: np.ndarray
    codes: np.ndarray
    labels: np.ndarray


def make_row(plan: SongPlan, codes: np.ndarray, tokenizer: Tokenizer, gen_config: GenConfig) -> Row:
    """codes [F, 8], each below 256. The tokenizer must have a token a syllable."""
    prompt = make_prompt(tokenizer, gen_config, plan.tags, plan.lyrics)
    begin, frames = len(prompt.text_ids), len(codes)
    tokens = np.full(begin + frames, FRAME, np.int16)
    tokens[:begin] = prompt.text_ids
    tokens[prompt.reference_index] = REFERENCE
    all_codes = np.zeros((begin + frames, CODEBOOKS), np.uint8)
    all_codes[begin:] = codes
    labels = np.full((begin + frames, len(LABELS)), NONE, np.uint8)
    lyrics = prompt.reference_index + 1
    for position, beat, vowel in syllable_labels(plan, tokenizer):
        labels[lyrics + position, [_BEAT, _VOWEL]] = beat, vowel
    labels[begin - 1 : begin - 1 + frames] = frame_labels(plan, frames)
    return Row(tokens, all_codes, labels)


def frame_labels(plan: SongPlan, frames: int) -> np.ndarray:
    """uint8 [frames, 6]."""
    beats, phase = np.divmod(np.arange(frames), BEAT_CODES[plan.tempo])
    total = len(plan.beat_vowels)
    vowels = np.array([_SUNG.index(vowel) for vowel in plan.beat_vowels])
    chords = np.repeat(_bar_chords(plan), plan.beats_per_bar)
    at, rings_on = np.minimum(beats, total - 1), beats >= total
    key = theory.TONICS.index(plan.tonic) + len(theory.TONICS) * list(MODES.values()).index(plan.mode)
    columns = {
        "beat": np.minimum(beats, LABELS["beat"] - 1),
        "phase": phase,
        "vowel": np.where(rings_on, 0, vowels[at]),
        "chord": np.where(rings_on, 0, chords[at]),
        "key": np.full(frames, key),
        "left": np.clip(total - beats, 0, LABELS["left"] - 1),
    }
    return np.stack([columns[name] for name in LABELS], axis=1).astype(np.uint8)


def syllable_labels(plan: SongPlan, tokenizer: Tokenizer) -> list[tuple[int, int, int]]:
    """(token of the encoded lyrics, beat on which it is sung, vowel) for each syllable."""
    begins = [offset[0] for offset in tokenizer.encode(plan.lyrics).offsets]
    labels = []
    beat, at = 0, 0
    for section in plan.sections:
        at = plan.lyrics.index("\n", at) + 1  # behind the section's mark
        for line in section.lines:
            sung = [i for i, offset in enumerate(begins) if i > 0 and at <= offset < at + len(line.text)]
            if len(sung) != len(line.vowels):
                raise ValueError(f'the tokenizer cuts "{line.text}" into {len(sung)} pieces, not a piece a syllable')
            for k, (token, vowel) in enumerate(zip(sung, line.vowels, strict=True)):
                labels.append((token, min(beat + k, LABELS["beat"] - 1), _SUNG.index(vowel)))
            at += len(line.text) + 1
            beat += plan.line_beats
        beat += 0 if section.lines else plan.beats_per_bar
        at += 1  # the empty line between sections
    return labels


def _bar_chords(plan: SongPlan) -> list[int]:
    chords = []
    for section in plan.sections:
        for bar in range(section.bars):
            root, third, _ = theory.triad(plan.mode, section.progression[bar % len(section.progression)])
            minor = (third - root) % 12 == 3
            chords.append(1 + (plan.tonic + root) % 12 + 12 * minor)
    return chords
