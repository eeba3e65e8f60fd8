"""The built C++ program (HEARTMULA) and drafters: it dumps what they learn from, and they leave its songs alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from tokenizers import Tokenizer

from heartmula_train.__main__ import main
from heartmula_train.evaluation.program import read_codes
from heartmula_train.lm.heartmula import LmSession
from heartmula_train.sampling.sampler import guide
from heartmula_train.song.checkpoint import lm_folder, load_lm, read_json
from heartmula_train.stages.drafters import DRAFTER_STAGES
from heartmula_train.text.prompt import GenConfig, make_prompt

pytestmark = pytest.mark.skipif("HEARTMULA" not in os.environ, reason="HEARTMULA names no program")
CONFIG = Path(__file__).with_name("minute_drafter.toml")
PROMPT = ("piano,happy", "[verse]\nla la la")
SONGS = 4


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of songs' codes, float32."""
    folder = tmp_path_factory.mktemp("songs")
    for seed in range(SONGS):
        _generate(folder / f"song-{seed}", seed)
    return folder


def _generate(path: Path, seed: int, *more: str) -> np.ndarray:
    command = [os.environ["HEARTMULA"], "generate", "--model_path", str(TINY), "--mula_dtype", "fp32", "--threads", "1"]
    command += ["--tags_text", PROMPT[0], "--lyrics_text", PROMPT[1], "--seed", str(seed), "--ignore_eos"]
    command += ["--max_audio_length_ms", "3200", "--codec_steps", "1", "--save_path", f"{path}.wav", *more]
    subprocess.run([*command, "--save_codes", f"{path}.codes.safetensors"], check=True, capture_output=True)
    return read_codes(Path(f"{path}.codes.safetensors"))


@pytest.fixture(scope="module")
def dumps(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the program writes of them."""
    folder = tmp_path_factory.mktemp("dumps")
    codes = sorted(str(path) for path in songs.glob("*.codes.safetensors"))
    where = ["--model_path", str(TINY), "--mula_dtype", "fp32", "--out", str(folder)]
    command = [os.environ["HEARTMULA"], "dump", *where, *codes]
    for missing in (SONGS, 0):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert f"{missing} of {SONGS} songs are missing" in done.stderr
    return folder


def test_a_dump_of_another_song_is_not_taken_for_this_one(dumps: Path, tmp_path: Path) -> None:
    """Of the same name and seed, but shorter."""
    _generate(tmp_path / "song-1", 1, "--max_audio_length_ms", "1600")
    where = ["--model_path", str(TINY), "--mula_dtype", "fp32", "--out", str(dumps)]
    command = [os.environ["HEARTMULA"], "dump", *where, str(tmp_path / "song-1.codes.safetensors")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "song-1.dump.safetensors: is there already, but is not of" in done.stderr


@torch.no_grad()
def test_dump_is_what_the_kit_computes(songs: Path, dumps: Path) -> None:
    """Hidden states and guided logits of every frame, by the kit's own model."""
    model = load_lm(TINY / lm_folder())
    stored = load_file(dumps / "song-1.dump.safetensors")
    codes = torch.from_numpy(read_codes(songs / "song-1.codes.safetensors")).long()
    assert torch.equal(stored["codes"].long(), codes)
    session = LmSession(model, guided=True)
    ids = GenConfig(**read_json(TINY / "gen_config.json"))
    prompt = make_prompt(Tokenizer.from_file(str(TINY / "tokenizer.json")), ids, *PROMPT)
    session.prefill(torch.tensor(prompt.text_ids), prompt.reference_index)
    for t, frame in enumerate(codes):
        assert torch.allclose(session.hidden, stored["hidden"][t], atol=1e-4)
        for q in range(8):
            rows = session.first_logits() if q == 0 else session.next_logits(q, int(frame[q - 1]))
            guided = guide(rows, 1.5)[: ids.audio_eos_id if t > 0 else None]  # the song may not end
            kept = stored["tokens"][t, q].long()
            assert torch.allclose(guided[kept], stored["logits"][t, q], atol=1e-3)
            assert (stored["logits"][t, q].diff() <= 0).all()
            assert stored["logits"][t, q, -1] >= guided.sort(descending=True).values[len(kept) - 1] - 1e-3
        session.feed(frame)


def test_every_drafter_makes_the_same_song(dumps: Path, songs: Path, tmp_path: Path) -> None:
    """Each stage for a few steps, exported, and the program's song with it."""
    plain = read_codes(songs / "song-2.codes.safetensors")
    for stage in DRAFTER_STAGES:
        run = tmp_path / stage
        if stage != "micro_depth":
            shutil.copytree(tmp_path / "micro_depth", run)
        config = ["--config", str(CONFIG), "--out", str(run)]
        assert main([stage, *config, "--dump", str(dumps), "--model_path", str(TINY)]) == 0
        file = run / "drafter.safetensors"
        assert main(["export_drafter", *config, "--to", str(file), "--dtype", "f32"]) == 0
        for frames in ["0"] if stage == "micro_depth" else ["0", "3"]:
            made = _generate(tmp_path / "drafted", 2, "--drafter", str(file), "--draft_frames", frames)
            assert np.array_equal(made, plain), f"{stage}, {frames} frames"
