"""What a synthetic song is: tags, lyrics, key, form. All that its sound and its ground truth follow from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from heartmula_train.codec.config import SAMPLE_RATE, SAMPLES_PER_CODE
from heartmula_train.music import theory
from heartmula_train.music.lyrics import WORDS, Line, draw_line

# Code frames (80 ms) a beat: whole numbers, so that a bar is the same run of codes each time; no two tempos are an
# octave apart. 62.5, 93.75 and 150 beats a minute.
BEAT_CODES = {"slow": 12, "medium": 8, "fast": 5}
MODES = {"happy": "major", "sad": "minor"}
INSTRUMENTS = ("piano", "organ", "strings", "synth", "guitar")
BRIGHT_INSTRUMENTS = ("synth", "guitar")
GENRES = ("waltz", "rock", "ballad", "techno", "lullaby")
EXTRAS = ("drums", "bass")
SECTIONS = ("intro", "verse", "chorus", "outro")
_DRUMS_PROBABILITY = {"waltz": 0.4, "rock": 0.8, "ballad": 0.4, "techno": 0.8, "lullaby": 0.2}
_BASS_PROBABILITY = 0.6
BARS_PER_LINE = 2
TAIL_CODES = 8  # after the last bar: release and reverb die away
MIN_SECONDS, MAX_SECONDS = 8.0, 60.0


@dataclass(frozen=True)
class Section:
    """A part of the song. Without lines (intro, outro) it lasts one bar and nobody sings."""

    name: str
    lines: tuple[Line, ...]
    progression: tuple[int, ...]

    @property
    def bars(self) -> int:
        """Length in bars."""
        return BARS_PER_LINE * len(self.lines) if self.lines else 1


@dataclass(frozen=True)
class SongPlan:
    """Everything that is drawn before a note sounds."""

    tempo: str
    mood: str
    instrument: str
    genre: str
    drums: bool
    bass: bool
    tonic: int
    sections: tuple[Section, ...]
    seed: int

    @property
    def mode(self) -> str:
        """Major or minor."""
        return MODES[self.mood]

    @property
    def bright(self) -> bool:
        """Whether the instrument has strong high partials."""
        return self.instrument in BRIGHT_INSTRUMENTS

    @property
    def beats_per_bar(self) -> int:
        """3 in a waltz, else 4."""
        return 3 if self.genre == "waltz" else 4

    @property
    def line_beats(self) -> int:
        """Beats of a sung line."""
        return BARS_PER_LINE * self.beats_per_bar

    @property
    def beat_samples(self) -> int:
        """Samples a beat at 48 kHz."""
        return BEAT_CODES[self.tempo] * SAMPLES_PER_CODE

    @property
    def bars(self) -> int:
        """Bars of all sections."""
        return sum(section.bars for section in self.sections)

    @property
    def codes(self) -> int:
        """Code frames of the whole song, tail included."""
        return self.bars * self.beats_per_bar * BEAT_CODES[self.tempo] + TAIL_CODES

    @property
    def samples(self) -> int:
        """Samples a channel."""
        return self.codes * SAMPLES_PER_CODE

    @property
    def end_seconds(self) -> float:
        """When the last bar ends."""
        return self.bars * self.beats_per_bar * self.beat_samples / SAMPLE_RATE

    @property
    def tags(self) -> str:
        """As a user writes them, in a fixed order."""
        extras = [name for name, present in zip(EXTRAS, (self.drums, self.bass), strict=True) if present]
        return ",".join([self.tempo, self.mood, self.genre, self.instrument, *extras])

    @property
    def lyrics(self) -> str:
        """Sections in brackets, lines below them."""
        parts = ["\n".join([f"[{section.name}]", *(line.text for line in section.lines)]) for section in self.sections]
        return "\n\n".join(parts) + "\n"

    @property
    def beat_vowels(self) -> str:
        """The vowel sung on each beat of the song, '-' where nobody sings."""
        beats = []
        for section in self.sections:
            beats += [line.vowels.ljust(self.line_beats, "-") for line in section.lines] or ["-" * self.beats_per_bar]
        return "".join(beats)


def draw_plan(
    seed: int,
    index: int,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
    words: Sequence[str] = WORDS,
) -> SongPlan:
    """Song `index` of the collection `seed`. Lengths are log-uniform in the range, as far as whole lines allow."""
    rng = np.random.default_rng((seed, index))
    genre = str(rng.choice(GENRES))
    plan = SongPlan(
        tempo=str(rng.choice(list(BEAT_CODES))),
        mood=str(rng.choice(list(MODES))),
        instrument=str(rng.choice(INSTRUMENTS)),
        genre=genre,
        drums=bool(rng.random() < _DRUMS_PROBABILITY[genre]),
        bass=bool(rng.random() < _BASS_PROBABILITY),
        tonic=int(rng.choice(theory.TONICS)),
        sections=(),
        seed=int(rng.integers(2**31)),
    )
    wanted = float(np.exp(rng.uniform(np.log(min_seconds), np.log(max_seconds))))
    bar_seconds = plan.beats_per_bar * plan.beat_samples / SAMPLE_RATE
    lines_seconds = BARS_PER_LINE * bar_seconds
    tail_seconds = TAIL_CODES * SAMPLES_PER_CODE / SAMPLE_RATE
    most = int((max_seconds - tail_seconds - 2 * bar_seconds) / lines_seconds)
    least = int(np.ceil((min_seconds - tail_seconds - 2 * bar_seconds) / lines_seconds))
    lines = int(np.clip(round((wanted - 2 * bar_seconds) / lines_seconds), max(1, least), max(1, most)))
    return replace(plan, sections=_draw_sections(rng, plan, lines, words))


def _draw_sections(rng: np.random.Generator, plan: SongPlan, lines: int, words: Sequence[str]) -> tuple[Section, ...]:
    """Intro, then verses and choruses in turn (at most four lines each; choruses repeat their words), outro."""
    choices = theory.PROGRESSIONS[plan.mode]
    progressions = {name: choices[int(rng.integers(len(choices)))] for name in ("verse", "chorus")}

    def line() -> Line:
        return draw_line(rng, int(rng.integers(plan.line_beats // 2, plan.line_beats)), words)

    chorus: list[Line] = []
    sections = [Section("intro", (), (0,))]
    name = "verse"
    while lines > 0:
        count = min(lines, 2 if lines <= 4 or rng.random() < 0.5 else 4)
        if name == "chorus":
            chorus += [line() for _ in range(count - len(chorus))]
            sung = chorus[:count]
        else:
            sung = [line() for _ in range(count)]
        sections.append(Section(name, tuple(sung), progressions[name]))
        lines -= count
        name = "chorus" if name == "verse" else "verse"
    return (*sections, Section("outro", (), (0,)))
