"""Long songs: cut into minutes, heard, and added up; the program is replaced by the synthesizer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from heartmula_train.codec.config import SAMPLE_RATE
from heartmula_train.evaluation import long_songs
from heartmula_train.evaluation.frechet import song_vectors
from heartmula_train.evaluation.hearing import ATTRIBUTES
from heartmula_train.evaluation.long_songs import level_dbfs, long_plan, measure_parts, parts_of, prompt_plan, totals
from heartmula_train.evaluation.plans import evaluation_plan
from heartmula_train.evaluation.program import Program, write_wav
from heartmula_train.music.render import render

PART, SONG = 6, 12


@pytest.fixture(autouse=True)
def short_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_songs, "PART_SECONDS", PART)
    monkeypatch.setattr(long_songs, "SONG_SECONDS", SONG)
    monkeypatch.setattr(long_songs, "LYRICS_SECONDS", dict.fromkeys(long_songs.LYRICS_SECONDS, 24.0))


def test_songs_are_cut_into_whole_minutes() -> None:
    samples = PART * SAMPLE_RATE
    song = np.arange(2 * (2 * samples + 7), dtype=np.float32).reshape(2, -1)
    parts = parts_of(song)
    assert [part.shape for part in parts] == [(2, samples)] * 2
    assert np.array_equal(np.concatenate(parts, axis=1), song[:, : 2 * samples])


def test_levels() -> None:
    assert level_dbfs(np.full((2, 100), 0.1, np.float32)) == pytest.approx(-20.0, abs=1e-4)
    assert level_dbfs(np.zeros((2, 100), np.float32)) == -120.0


def test_a_long_plan_is_the_evaluation_song_gone_on() -> None:
    for number in range(4):
        short, long = evaluation_plan(number), long_plan(number, 600.0)
        assert (long.tags, long.tonic) == (short.tags, short.tonic)
        assert 560 < long.end_seconds <= 600
        assert long_plan(number, 360.0).lyrics[:500] == long.lyrics[:500]
        assert long.lyrics.count("[") > 20


def test_minutes_that_leave_their_prompt_show_in_the_totals() -> None:
    """The second song's second minute is another tempo, and half as loud."""
    plan, other = long_plan(0, 24.0), long_plan(2, 24.0)
    assert plan.tempo != other.tempo
    samples = PART * SAMPLE_RATE
    right = render(plan)[:, : 2 * samples]
    wrong = np.concatenate((right[:, :samples], 0.5 * render(other)[:, samples : 2 * samples]), axis=1)
    measured = [measure_parts(song, plan) for song in (right, wrong)]
    first, second = totals([rows for rows, _ in measured], [vectors for _, vectors in measured])
    assert (first["minute"], second["minute"]) == (1, 2)
    assert first["tempo"]["right"] == 2
    assert second["tempo"]["right"] == second["everything"]["right"] == 1
    assert first["to_first"] == 0 < second["to_first"]
    assert second["level_range_dbfs"][0] < first["level_range_dbfs"][0] - 3
    assert second["level_dbfs"] == pytest.approx(np.mean(second["level_range_dbfs"]), abs=0.02)
    assert len(measured[0][1][0]) == len(song_vectors(right[:, :samples])) == PART


def test_a_song_that_ends_early_counts_as_far_as_it_goes() -> None:
    plan = long_plan(1, 24.0)
    song = render(plan)[:, : 2 * PART * SAMPLE_RATE]
    measured = [measure_parts(part, plan) for part in (song, song[:, : PART * SAMPLE_RATE])]
    found = totals([rows for rows, _ in measured], [vectors for _, vectors in measured])
    assert [row["tempo"]["of"] for row in found] == [2, 1]


def test_result_of_both_ways_and_the_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def play(
        program: Program, _model: Path, prompt: tuple[str, str], path: Path, seed: int, length_ms: int, *_others: object
    ) -> dict[str, dict]:
        assert prompt == (prompt_plan(seed).tags, prompt_plan(seed).lyrics)
        asked.append((*program.more, length_ms))
        song = render(long_plan(seed, 24.0))[:, : length_ms * SAMPLE_RATE // 1000]
        write_wav(song, path)
        made = {"duration_s": length_ms / 1000, "stop_reason": "length", "passages": 3, "peak_memory_bytes": 5_000_000}
        result = {"result": {**made, "real_time_factor": {"frames": 0.1, "codec": 0.2}, "device": "none"}}
        path.with_name(path.name + ".json").write_text(json.dumps(result), encoding="utf-8")
        return result

    monkeypatch.setattr(Program, "generate", play)
    monkeypatch.setattr(Program, "version", lambda _: "heartmula 0")
    out = tmp_path / "result.json"
    arguments = ["--model_path", str(tmp_path), "--songs", "2", "--memory_seconds", "6", "12", "--out", str(out)]
    assert long_songs.main([*arguments, "--more", "--codec_steps 2"]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert set(result["totals"]) == {"kit", "slide", "chapters"}
    assert result["totals"]["slide"] == result["totals"]["chapters"], "the same songs"
    assert [row["tempo"]["of"] for row in result["totals"]["slide"]] == [2, 2]
    assert set(ATTRIBUTES) < set(result["totals"]["chapters"][0])
    assert [row["peak_memory_mb"] for row in result["memory"]["chapters"]] == [5.0, 5.0]
    assert len(asked) == 6, "a song that memory asks for is not made twice"
    assert asked[0] == ("--codec_steps", "2", "--long", "slide", "--ignore_eos", 12000)
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
