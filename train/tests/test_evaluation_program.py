"""Evaluations with the built C++ program (HEARTMULA), on checkpoints that make noise."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from conftest import TINY
from untrained import untrained_run

from heartmula_train.evaluation import codec_path, prompt_following, solver_steps
from heartmula_train.evaluation.program import Program, ProgramError, read_codes, read_wav, write_codes
from heartmula_train.song.checkpoint import stored_tensors, write_file
from heartmula_train.stages.config import read_config
from heartmula_train.stages.run import QUANTIZER, load_quantizer
from heartmula_train.stages.songs import held_out_plan

CONFIG = Path(__file__).with_name("minute.toml")

needs_program = pytest.mark.skipif("HEARTMULA" not in os.environ, reason="HEARTMULA names no program")


@needs_program
def test_prompt_following_and_its_requirements(tmp_path: Path) -> None:
    out, songs = tmp_path / "result.json", tmp_path / "songs"
    arguments = ["--model_path", str(TINY), "--songs", "2", "--first", "3", "--max_seconds", "8", "--out", str(out)]
    assert prompt_following.main([*arguments, "--keep", str(songs), "--require", "sum=0"]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert [row["song"] for row in result["songs"]] == [3, 4]
    assert result["totals"]["tempo"]["of"] == 2
    assert result["program"].startswith("heartmula ")
    assert len(result["checkpoint_sha256"]) == 64
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
    for row in result["songs"]:
        sidecar = json.loads((songs / f"song-{row['song']:03d}.wav.json").read_text(encoding="utf-8"))
        assert sidecar["request"]["tags"] == row["tags"]
        assert sidecar["request"]["seed"] == row["song"]
        assert read_wav(songs / f"song-{row['song']:03d}.wav").shape[1] == int(row["frames"] / 12.5 * 48000)
    assert prompt_following.main([*arguments[:-2], "--songs", "1", "--require", "sum=4"]) == 1, "noise follows nothing"


@needs_program
def test_solver_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_steps, "REFERENCE_STEPS", 6)
    monkeypatch.setattr(solver_steps, "STEPS", (2, 6))
    out = tmp_path / "result.json"
    assert solver_steps.main(["--model_path", str(TINY), "--songs", "1", "--out", str(out)]) == 0
    totals = json.loads(out.read_text(encoding="utf-8"))["totals"]
    assert totals["6"]["log_mel_db"] == totals["6"]["levels_changed"] == 0, "the reference itself"
    assert 0 < totals["2"]["log_mel_db"] < totals["other noise"]["log_mel_db"]
    assert 0 < totals["2"]["levels_changed"] < totals["other noise"]["levels_changed"]


@needs_program
def test_codec_path(tmp_path: Path) -> None:
    config = read_config(CONFIG)
    run, out, kept = tmp_path / "run", tmp_path / "result.json", tmp_path / "kept"
    run.mkdir()
    untrained_run(config, run)
    arguments = ["--config", str(CONFIG), "--run", str(run), "--songs", "2", "--out", str(out), "--keep", str(kept)]
    assert codec_path.main(arguments) == 1, "noise meets no target"
    result = json.loads(out.read_text(encoding="utf-8"))
    assert set(result["totals"]) == {"codec", "autoencoder"}
    assert result["totals"]["codec"]["log_mel_db"] > codec_path.TARGET_DB
    assert result["targets_met"]["log_mel_db"] is False
    assert result["original_vowels"] > 0.7 > result["totals"]["codec"]["vowels"], "noise sings nothing"
    for row in result["songs"]:
        plan = held_out_plan(config, row["song"])
        assert row["tags"] == plan.tags
        assert all(row["original_right"].values())
        assert row["syllables"] == len(plan.beat_vowels.replace("-", ""))
        name = f"held-out-{row['song']}"
        assert read_codes(kept / "codes" / f"{name}.safetensors").shape == (plan.codes, 8)
        original, decoded = (read_wav(kept / kind / f"{name}.wav") for kind in ("original", "decoded"))
        assert abs(original.shape[1] - decoded.shape[1]) <= 1


@needs_program
def test_codec_path_of_an_exported_checkpoint_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Its quantizer and codec make the same row as the run that they were exported from."""
    config = read_config(CONFIG)
    run, folder = tmp_path / "run", tmp_path / "checkpoint"
    run.mkdir()
    untrained_run(config, run)
    codec_path.export_codec(config, run, folder)
    write_file(folder / QUANTIZER, stored_tensors(load_quantizer(config, run), torch.float32))
    rows = []
    for where in (["--run", str(run)], ["--model_path", str(folder)]):
        out = tmp_path / "result.json"
        assert codec_path.main(["--config", str(CONFIG), *where, "--songs", "1", "--out", str(out)]) == 1
        rows.append(json.loads(out.read_text(encoding="utf-8"))["songs"][0]["codec"])
    assert rows[0] == rows[1]
    with pytest.raises(SystemExit):
        codec_path.main(["--config", str(CONFIG)])
    assert "needs --run, --model_path" in capsys.readouterr().err


@needs_program
def test_error_of_the_program_is_told(tmp_path: Path) -> None:
    program = Program(os.environ["HEARTMULA"])
    with pytest.raises(ProgramError, match="no such folder"):
        program.decode(tmp_path / "nowhere", _codes(tmp_path), tmp_path / "song.wav", seed=1)


def _codes(folder: Path) -> Path:
    write_codes(torch.zeros(3, 8).numpy(), folder / "codes.safetensors")
    return folder / "codes.safetensors"


def test_missing_program_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--model_path", str(TINY), "--program", str(tmp_path / "none")]
    assert prompt_following.main(arguments) == 2
    assert "--program" in capsys.readouterr().err
