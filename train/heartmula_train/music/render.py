"""A song plan -> 48 kHz stereo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heartmula_train.music import theory
from heartmula_train.music.instruments import drum, sung, tone
from heartmula_train.music.plan import BARS_PER_LINE, Section, SongPlan

PEAK = 0.9
RMS = 0.12

_CHORD_LOW, _BASS_LOW = 55, 33  # MIDI notes: chords from G3, bass from A1
_VOICE_RANGE = (50, 64)
_LEAD_RANGE = (67, 79)
_SUNG_PART = 0.85  # of a beat
# Delays in samples of the reverb's combs, left and right, and how long they ring.
_COMBS = ((1867, 2111, 2473, 2833), (1949, 2213, 2377, 2741))
_COMB_GAIN = 0.62

# Strokes of one bar: (drum, beat within the bar, strength). Other meters and genres than listed do not occur.
_DRUM_PATTERNS = {
    "waltz": (("kick", 0, 1.0), ("hat", 1, 0.8), ("hat", 2, 0.8), ("snare", 2, 0.4)),
    "rock": (
        ("kick", 0, 1.0), ("snare", 1, 1.0), ("kick", 2, 1.0), ("snare", 3, 1.0),
        *(("hat", 0.5 * i, 0.8) for i in range(8)),
    ),
    "ballad": (("kick", 0, 0.8), ("snare", 2, 0.7), *(("hat", i, 0.7) for i in range(4))),
    "techno": (*(("kick", i, 1.0) for i in range(4)), *(("hat", i + 0.5, 1.0) for i in range(4))),
    "lullaby": (("kick", 0, 0.5), ("hat", 1, 0.6), ("hat", 2, 0.6), ("hat", 3, 0.6)),
}  # fmt: skip

# How chords are played: (beat, length in beats, which notes of the chord, strength).
_CHORD_PATTERNS = {
    "waltz": ((1, 0.9, (0, 1, 2), 0.9), (2, 0.9, (0, 1, 2), 0.9), (0, 0.9, (0,), 1.1)),
    "rock": tuple((i, 0.9, (0, 1, 2), 1.0) for i in range(4)),
    "ballad": (*((i, 1.0, (n,), 1.5) for i, n in enumerate((0, 1, 2, 1))), (0, 4.0, (0, 2), 0.6)),
    "techno": tuple((i + 0.5, 0.4, (0, 1, 2), 1.1) for i in range(4)),
    "lullaby": ((0, 2.0, (0, 1, 2), 0.8), (2, 2.0, (0, 1, 2), 0.8)),
}

_BASS_PATTERNS = {
    "waltz": ((0, 2.8),),
    "rock": ((0, 1.9), (2, 1.9)),
    "ballad": ((0, 3.9),),
    "techno": tuple((i + 0.5, 0.4) for i in range(4)),
    "lullaby": ((0, 3.9),),
}


@dataclass
class _Track:
    """A mono line with its place in the stereo picture (-1 left, 1 right) and its share of reverb."""

    samples: np.ndarray
    pan: float
    reverb: float

    def add(self, begin: int, note: np.ndarray, strength: float) -> None:
        """Mixes a note in, cut at the song's end."""
        end = min(self.samples.shape[0], begin + note.shape[0])
        self.samples[begin:end] += np.float32(strength) * note[: end - begin]


def render(plan: SongPlan) -> np.ndarray:
    """float32 [2, samples]; the same plan always gives the same samples."""
    rng = np.random.default_rng(plan.seed)
    chords = _new_track(plan, -0.35 + rng.uniform(-0.1, 0.1), 0.25)
    lead = _new_track(plan, 0.4 + rng.uniform(-0.1, 0.1), 0.3)
    voice = _new_track(plan, 0.0, 0.2)
    bass = _new_track(plan, 0.0, 0.0)
    drums = _new_track(plan, 0.1, 0.05)
    bar = 0
    for section in plan.sections:
        for local in range(section.bars):
            last = bar == plan.bars - 1
            degree = section.progression[local % len(section.progression)]
            _play_chord(plan, chords, bar, degree, last)
            if plan.bass:
                _play_bass(plan, bass, bar, degree, last)
            if plan.drums:
                _play_drums(plan, drums, bar, last)
            bar += 1
        _play_melody(rng, plan, section, lead if not section.lines else voice, bar - section.bars)
    return _mix([chords, lead, voice, bass, drums])


def _new_track(plan: SongPlan, pan: float, reverb: float) -> _Track:
    return _Track(np.zeros(plan.samples, np.float32), pan, reverb)


def _at(plan: SongPlan, bar: int, beat: float) -> int:
    return int((bar * plan.beats_per_bar + beat) * plan.beat_samples)


def _play_chord(plan: SongPlan, track: _Track, bar: int, degree: int, last: bool) -> None:
    notes = theory.voiced_chord(plan.tonic, plan.mode, degree, _CHORD_LOW)
    pattern = ((0, plan.beats_per_bar, (0, 1, 2), 1.0),) if last else _CHORD_PATTERNS[plan.genre]
    for beat, beats, which, strength in pattern:
        for index in which:
            length = int(beats * plan.beat_samples)
            track.add(_at(plan, bar, beat), tone(plan.instrument, notes[index], length), strength)


def _play_bass(plan: SongPlan, track: _Track, bar: int, degree: int, last: bool) -> None:
    root = theory.triad(plan.mode, degree)[0]
    note = _BASS_LOW + (plan.tonic + root - _BASS_LOW) % 12
    for beat, beats in ((0, plan.beats_per_bar),) if last else _BASS_PATTERNS[plan.genre]:
        track.add(_at(plan, bar, beat), tone("bass", note, int(beats * plan.beat_samples)), 1.0)


def _play_drums(plan: SongPlan, track: _Track, bar: int, last: bool) -> None:
    for name, beat, strength in (("kick", 0, 1.0),) if last else _DRUM_PATTERNS[plan.genre]:
        track.add(_at(plan, bar, beat), drum(name), strength)


def _play_melody(rng: np.random.Generator, plan: SongPlan, section: Section, track: _Track, bar: int) -> None:
    """The voice sings the lines, one note a syllable and beat; where nobody sings, the instrument plays two notes."""
    per_bar = plan.beats_per_bar
    if not section.lines:
        degrees = [section.progression[0]] * 2
        for beat, note in enumerate(theory.draw_melody(rng, plan.tonic, plan.mode, degrees, *_LEAD_RANGE)):
            track.add(_at(plan, bar, beat), tone(plan.instrument, note, plan.beat_samples), 0.8)
        return
    length = int(_SUNG_PART * plan.beat_samples)
    for index, line in enumerate(section.lines):
        begin = index * BARS_PER_LINE
        degrees = [
            section.progression[(begin + beat // per_bar) % len(section.progression)]
            for beat in range(len(line.vowels))
        ]
        melody = theory.draw_melody(rng, plan.tonic, plan.mode, degrees, *_VOICE_RANGE)
        for beat, (vowel, note) in enumerate(zip(line.vowels, melody, strict=True)):
            track.add(_at(plan, bar + begin, beat), sung(vowel, note, length), 1.0)


def _mix(tracks: list[_Track]) -> np.ndarray:
    """Pans with equal power, adds reverb, and brings the song to its level without clipping."""
    samples = tracks[0].samples.shape[0]
    song = np.zeros((2, samples), np.float32)
    send = np.zeros(samples, np.float32)
    for track in tracks:
        angle = (track.pan + 1.0) * np.pi / 4
        song[0] += np.float32(np.cos(angle)) * track.samples
        song[1] += np.float32(np.sin(angle)) * track.samples
        send += np.float32(track.reverb) * track.samples
    for channel, delays in enumerate(_COMBS):
        for delay in delays:
            song[channel] += 0.25 * _comb(send, delay)
    loudness = np.sqrt(np.mean(np.square(song), dtype=np.float64))
    return song * np.float32(min(RMS / loudness, PEAK / np.abs(song).max()))


def _comb(x: np.ndarray, delay: int) -> np.ndarray:
    """y[t] = x[t - delay] + gain y[t - delay], a block of `delay` samples at a time."""
    blocks = -(-x.shape[0] // delay)
    padded = np.zeros((blocks, delay), np.float32)
    padded.reshape(-1)[: x.shape[0]] = x
    y = np.zeros_like(padded)
    for block in range(1, blocks):
        np.multiply(y[block - 1], _COMB_GAIN, out=y[block])
        y[block] += padded[block - 1]
    return y.reshape(-1)[: x.shape[0]]
