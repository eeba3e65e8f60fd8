"""Songs longer than the model's context, minute by minute: tempo, mode, drums, level, distance to the kit's songs.

Usage: python -m heartmula_train.evaluation.long_songs --model_path ../demo --songs 4 --keep songs/long \
           --more "--codec_path ../demo/HeartCodec-student --codec_steps 2" --out RESULT.json

Each song is made in every way of `--ways`: slide, chapters (both --ignore_eos, so that all are equally long) and
chapters_may_end. Its tags have the tempo, mood and drums of the evaluation song of that number, its lyrics are as long
as the song, as far as half of the demo's context holds them. Beside it, as `kit`, stands what the kit renders of the
same plan, cut alike: what the analyzer hears in a minute without beginning and end, and how far minutes of one song are
from each other anyway. Distances are Frechet distances of `frechet`, of all songs' seconds: `distance` to the kit's
whole songs, `to_first` to the first minute of the same songs. A minute's `everything` is tempo, mode and drums.

Memory: song `--first` is made at each of `--memory_seconds`, too. Songs that lie in --keep are not made again.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from heartmula_train.codec.config import SAMPLE_RATE
from heartmula_train.evaluation.frechet import Gaussian, frechet_distance, song_vectors
from heartmula_train.evaluation.hearing import ATTRIBUTES, agreement, hear, heard_attributes
from heartmula_train.evaluation.plans import EVALUATION_SEED, MAX_SECONDS, evaluation_plan
from heartmula_train.evaluation.program import Program, ProgramError, Sampling, read_wav
from heartmula_train.evaluation.record import (
    add_program,
    add_sampling,
    command_parser,
    program_provenance,
    provenance,
    sampling_of,
    share,
    write_result,
)
from heartmula_train.music.plan import MIN_SECONDS, SongPlan, draw_plan
from heartmula_train.music.render import render
from heartmula_train.song.checkpoint import read_json

WAYS = {
    "slide": ("--long", "slide", "--ignore_eos"),
    "chapters": ("--long", "chapters", "--ignore_eos"),
    "chapters_may_end": ("--long", "chapters"),
}
KIT = "kit"
PART_SECONDS = 60
SONG_SECONDS = 600
KIT_MORE_SECONDS = 20  # plans are of whole lines, and the cut is to be before the end
# slide keeps all lyrics, and half of the context is the most that a prompt may have.
LYRICS_SECONDS = {"slow": 600.0, "medium": 600.0, "fast": 360.0}

Row = dict[str, Any]


@lru_cache(maxsize=64)
def long_plan(number: int, seconds: float) -> SongPlan:
    """Evaluation song `number` at another length: tags, key and the beginning of the lyrics are the same."""
    short = evaluation_plan(number)
    index = next(index for index in count() if draw_plan(EVALUATION_SEED, index, MIN_SECONDS, MAX_SECONDS) == short)
    return draw_plan(EVALUATION_SEED, index, seconds, seconds)


def parts_of(song: np.ndarray) -> list[np.ndarray]:
    """song [2, samples] -> its whole minutes."""
    samples = PART_SECONDS * SAMPLE_RATE
    return [song[:, begin : begin + samples] for begin in range(0, song.shape[1] - samples + 1, samples)]


def level_dbfs(song: np.ndarray) -> float:
    """Root mean square of both channels, in dB of full scale; silence is -120."""
    return float(10 * np.log10(max(np.mean(np.square(song, dtype=np.float64)), 1e-12)))


def measure_parts(song: np.ndarray, plan: SongPlan) -> tuple[list[Row], list[np.ndarray]]:
    """Of each minute: what is heard and its level; and its vectors for distances."""
    rows, vectors = [], []
    for part in parts_of(song):
        heard = hear(part)
        right = agreement(heard, plan)
        rows.append({"right": right, "heard": heard_attributes(heard), "level_dbfs": round(level_dbfs(part), 2)})
        vectors.append(song_vectors(part))
    return rows, vectors


def totals(
    songs: Sequence[Sequence[Row]], vectors: Sequence[Sequence[np.ndarray]], reference: Gaussian | None = None
) -> list[Row]:
    """Over all songs that have a minute, for each minute; without `reference` distances are to these songs' own."""
    reference = reference or Gaussian.of(np.concatenate([part for parts in vectors for part in parts]))
    result: list[Row] = []
    first = None
    for number in range(max(map(len, songs))):
        rows = [song[number] for song in songs if number < len(song)]
        gaussian = Gaussian.of(np.concatenate([parts[number] for parts in vectors if number < len(parts)]))
        first = first or gaussian
        levels = [row["level_dbfs"] for row in rows]
        result.append(
            {
                "minute": number + 1,
                **{name: share([row["right"][name] for row in rows]) for name in ATTRIBUTES},
                "everything": share([all(row["right"].values()) for row in rows]),
                "level_dbfs": round(float(np.mean(levels)), 2),
                "level_range_dbfs": [min(levels), max(levels)],
                "distance": round(frechet_distance(reference, gaussian), 1),
                "to_first": round(frechet_distance(first, gaussian), 1),
            }
        )
    return result


class Songs:
    """Makes songs of plans in a folder, unless they are there."""

    def __init__(self, program: Program, model_path: Path, sampling: Sampling, folder: Path) -> None:
        self._program, self._model_path, self._sampling, self._folder = program, model_path, sampling, folder

    def make(self, way: str, number: int, seconds: int) -> tuple[Path, Row]:
        """The song's file and the result that its sidecar tells."""
        path = self._folder / f"{way}-{number:03d}-{seconds}.wav"
        sidecar = path.with_name(path.name + ".json")
        if path.exists() and sidecar.exists():
            return path, read_json(sidecar)["result"]
        plan = prompt_plan(number)
        program = replace(self._program, more=(*self._program.more, *WAYS[way]))
        made = program.generate(
            self._model_path, (plan.tags, plan.lyrics), path, number, 1000 * seconds, self._sampling
        )
        return path, made["result"]


def prompt_plan(number: int) -> SongPlan:
    """Whose tags and lyrics are asked for."""
    return long_plan(number, LYRICS_SECONDS[evaluation_plan(number).tempo])


def kit_song(number: int) -> np.ndarray:
    """What the kit renders of song `number`, cut off like those that never end by themselves."""
    return render(long_plan(number, SONG_SECONDS + KIT_MORE_SECONDS))[:, : SONG_SECONDS * SAMPLE_RATE]


def told(made: Row) -> Row:
    """What a result keeps of a song's sidecar."""
    return {
        "duration_s": made["duration_s"],
        "stop_reason": made["stop_reason"],
        "passages": made.get("passages", 1),
        "peak_memory_mb": round(made["peak_memory_bytes"] / 1e6, 1),
        "real_time_factor": {name: round(made["real_time_factor"][name], 3) for name in ("frames", "codec")},
        "device": made["device"],
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("long_songs", __doc__)
    parser.add_argument("--model_path", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--songs", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="number of the first song; also its seed")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["slide", "chapters"])
    parser.add_argument("--memory_seconds", type=int, nargs="*", default=[60, 300, SONG_SECONDS])
    add_sampling(parser, temperature=0.8)
    parser.add_argument("--keep", type=Path, help="keep the songs in this folder (ten minutes are 230 MB)")
    parser.add_argument("--more", default="", metavar="FLAGS", help="of generate, such as a faster codec")
    add_program(parser)
    options = parser.parse_args(arguments)
    program = Program(options.program, options.threads, tuple(shlex.split(options.more)))
    sampling = sampling_of(options)
    numbers = range(options.first, options.first + options.songs)
    try:
        result = {**provenance("long_songs", arguments), **program_provenance(program, options.model_path)}
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
        with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as folder:
            songs = Songs(program, options.model_path, sampling, Path(folder))
            measured = measure(songs, numbers, options.ways, options.memory_seconds)
    except (ProgramError, ValueError, OSError) as error:
        print(f"long_songs: {error}", file=sys.stderr)
        return 2
    result["settings"] = {
        "plans_seed": EVALUATION_SEED,
        "song_seeds": "the song's number",
        "seconds": SONG_SECONDS,
        "part_seconds": PART_SECONDS,
        "lyrics_seconds": LYRICS_SECONDS,
        **asdict(sampling),
        "more": options.more,
    }
    write_result({**result, **measured}, options.out)
    for way, rows in measured["totals"].items():
        for row in rows:
            print(_line(way, row))
    return 0


def measure(songs: Songs, numbers: Sequence[int], ways: Sequence[str], memory_seconds: Sequence[int]) -> Row:
    """Makes all songs and hears them: totals, memory and a row a song."""
    rows: list[Row] = []
    found: dict[str, Row] = {}

    def hear_songs(way: str, heard: Iterator[tuple[int, np.ndarray, Row]], reference: Gaussian | None) -> None:
        parts, vectors = [], []
        for number, song, about in heard:
            plan = prompt_plan(number)
            minutes, of_minutes = measure_parts(song, plan)
            parts.append(minutes)
            vectors.append(of_minutes)
            rows.append({"way": way, "song": number, "tags": plan.tags, **about, "minutes": minutes})
            print(f"{way}, song {number} ({plan.tags}): {len(minutes)} minutes", flush=True)
        found[way] = {"totals": totals(parts, vectors, reference), "vectors": vectors}

    hear_songs(KIT, ((number, kit_song(number), {}) for number in numbers), None)
    reference = Gaussian.of(np.concatenate([part for parts in found[KIT]["vectors"] for part in parts]))

    def made(way: str) -> Iterator[tuple[int, np.ndarray, Row]]:
        for number in numbers:
            path, about = songs.make(way, number, SONG_SECONDS)
            yield number, read_wav(path), told(about)

    for way in ways:
        hear_songs(way, made(way), reference)
    memory = {way: [{"seconds": n, **told(songs.make(way, numbers[0], n)[1])} for n in memory_seconds] for way in ways}
    return {"totals": {way: of["totals"] for way, of in found.items()}, "memory": memory, "songs": rows}


def _line(way: str, row: Row) -> str:
    shares = ", ".join(f"{name} {row[name]['right']} of {row[name]['of']}" for name in ATTRIBUTES)
    distances = f"distance {row['distance']:.0f}, to the first minute {row['to_first']:.0f} dB^2"
    return f"{way}, minute {row['minute']}: {shares}; {row['level_dbfs']:.1f} dBFS; {distances}"


if __name__ == "__main__":
    sys.exit(main())
