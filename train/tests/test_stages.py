"""Every stage for a few steps at a minute size: losses fall, runs resume, export and reload agree, C++ reads it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from heartmula_train.__main__ import main
from heartmula_train.music.render import render
from heartmula_train.sampling.sampler import SamplingSettings, seeded_noise
from heartmula_train.song.checkpoint import load_checkpoint
from heartmula_train.song.frame_loop import generate_frames
from heartmula_train.stages.autoencoder import AutoencoderTask
from heartmula_train.stages.config import Config, Training, read_config
from heartmula_train.stages.flow import FlowTask
from heartmula_train.stages.language_model import LanguageModelTask, make_tokenizer
from heartmula_train.stages.loop import LAST, Task, train
from heartmula_train.stages.run import (
    ENCODER,
    STAGES,
    assemble,
    assemble_codec,
    export,
    load_autoencoder,
    load_quantizer,
    load_tokenizer,
)
from heartmula_train.stages.rvq import RvqTask
from heartmula_train.stages.songs import held_out_plan
from heartmula_train.text.prompt import make_prompt

CONFIG = Path(__file__).with_name("minute.toml")
CPU = torch.device("cpu")
TAGS, LYRICS = "slow,happy,waltz,piano", "[intro]\n\n[verse]\nblue moon over the sea\n"


def _rvq(config: Config, _run: Path) -> Task:
    task = RvqTask(config)
    task.start()
    return task


def _language_model(config: Config, run: Path) -> Task:
    tokenizer = make_tokenizer(config)
    (run / "language_model").mkdir(parents=True)
    tokenizer.save(str(run / "language_model" / "tokenizer.json"))
    return LanguageModelTask(config, load_quantizer(config, run), load_tokenizer(run))


MAKE: dict[str, Callable[[Config, Path], Task]] = {
    "autoencoder": lambda config, run: AutoencoderTask(config),
    "rvq": _rvq,
    "flow": lambda config, run: FlowTask(config, load_autoencoder(config, run), load_quantizer(config, run)),
    "language_model": _language_model,
}


def _loss(task: Task) -> float:
    """Of the first step's batch."""
    torch.manual_seed(0)
    task.module.train()
    with torch.no_grad():
        return float(task.losses(0, 0.0)["loss"])


@pytest.fixture(scope="module")
def config() -> Config:
    return read_config(CONFIG)


@pytest.fixture(scope="module")
def trained(config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[float, float]]]:
    """The folder of a run, and each stage's loss before and after."""
    run = tmp_path_factory.mktemp("run")
    losses = {}
    for name in STAGES:
        task = MAKE[name](config, run)
        before = _loss(task)
        train(task, getattr(config, name), run / name, config.seed, CPU)
        losses[name] = (before, _loss(task))
    return run, losses


@pytest.mark.parametrize("stage", ["autoencoder", "flow", "language_model"])
def test_loss_falls(trained: tuple[Path, dict[str, tuple[float, float]]], stage: str) -> None:
    before, after = trained[1][stage]
    print(f"{stage}: {before:.3f} -> {after:.3f}")
    assert after < 0.99 * before


def test_codebooks_start_good_and_stay_so(trained: tuple[Path, dict[str, tuple[float, float]]]) -> None:
    """k-means has done most of the work before the first step."""
    before, after = trained[1]["rvq"]
    figures = json.loads((trained[0] / "rvq" / "figures.json").read_text(encoding="utf-8"))
    print(f"rvq: {before:.3f} -> {after:.3f}, {figures}")
    assert after < 1.05 * before
    assert figures["error"] < figures["error_one_codebook"] < 1.0


def test_finished_stage_is_not_trained_again(
    config: Config, trained: tuple[Path, dict[str, tuple[float, float]]]
) -> None:
    weights = (trained[0] / "rvq" / "final.pt").read_bytes()
    assert STAGES["rvq"](config, trained[0], CPU)["step"] == config.rvq.steps
    assert (trained[0] / "rvq" / "final.pt").read_bytes() == weights


class _CutOff(Task):
    """Fails at a step, as a machine that is switched off would."""

    def __init__(self, task: Task, at_step: int) -> None:
        self.task, self.module, self.at_step = task, task.module, at_step

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        if step == self.at_step:
            raise KeyboardInterrupt
        return self.task.losses(step, progress)

    def validate(self) -> dict[str, float]:
        return self.task.validate()


def test_cut_off_run_goes_on_as_if_never_cut(
    config: Config, trained: tuple[Path, dict[str, tuple[float, float]]], tmp_path: Path
) -> None:
    settings = Training(steps=4, batch=2, learning_rate=1e-2, pool=2, save_every_s=0.0)
    run = trained[0]

    def task() -> Task:
        return LanguageModelTask(config, load_quantizer(config, run), load_tokenizer(run))

    train(task(), settings, tmp_path / "whole", config.seed, CPU)
    with pytest.raises(KeyboardInterrupt):
        train(_CutOff(task(), 2), settings, tmp_path / "cut", config.seed, CPU)
    assert (tmp_path / "cut" / LAST).exists()
    train(task(), settings, tmp_path / "cut", config.seed, CPU)
    whole, cut = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("whole", "cut"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name


def test_export_and_reload_agree(
    config: Config, trained: tuple[Path, dict[str, tuple[float, float]]], tmp_path: Path
) -> None:
    before = assemble(config, trained[0])
    export(config, trained[0], tmp_path / "f32", torch.float32)
    after = load_checkpoint(tmp_path / "f32")
    for ours, theirs in ((before.lm, after.lm), (before.codec, after.codec)):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name
    assert before.gen_config == after.gen_config
    prompt = make_prompt(after.tokenizer, after.gen_config, TAGS, LYRICS)
    assert prompt == make_prompt(before.tokenizer, before.gen_config, TAGS, LYRICS)
    songs = []
    for checkpoint in (before, after):
        noise = seeded_noise(1, config.lm.audio_vocab_size)
        frames = generate_frames(checkpoint.lm, checkpoint.gen_config, prompt, 400, SamplingSettings(), noise)
        songs.append(checkpoint.codec.decode(frames, checkpoint.codec.seeded_noise(1), steps=2))
    assert songs[0].shape == (2, int(len(frames) / 12.5 * 48000))
    assert (songs[0] == songs[1]).all()


def test_language_model_goes_on_from_a_checkpoint(
    config: Config, trained: tuple[Path, dict[str, tuple[float, float]]], tmp_path: Path
) -> None:
    export(config, trained[0], tmp_path / "checkpoint", torch.float32)
    arguments = ["--config", str(CONFIG), "--out", str(tmp_path / "run"), "--from", str(tmp_path / "checkpoint")]
    assert main(["start", *arguments]) == 0
    assert main(["start", *arguments]) == 2  # not over a run that there is
    song = render(held_out_plan(config, 0))
    codes = [load_quantizer(config, run).encode(song) for run in (trained[0], tmp_path / "run")]
    assert torch.equal(*codes)
    still = replace(config.language_model, steps=1, learning_rate=0.0)
    STAGES["language_model"](replace(config, language_model=still), tmp_path / "run", CPU)
    before, after = assemble(config, trained[0]), assemble(config, tmp_path / "run")
    for ours, theirs in ((before.lm, after.lm), (before.codec, after.codec)):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_kept_encoder_makes_the_latents_again(
    config: Config, trained: tuple[Path, dict[str, tuple[float, float]]], tmp_path: Path
) -> None:
    """A run that starts from the export has the autoencoder; the flow is trained on it, and is the one exported."""
    folder = tmp_path / "checkpoint"
    export(config, trained[0], folder, torch.float32)
    arguments = ["--config", str(CONFIG), "--from", str(folder)]
    whole, alone, codec = (tmp_path / name for name in ("whole", "alone", "codec"))
    assert main(["start", *arguments, "--out", str(whole)]) == 0
    assert main(["start", *arguments, "--out", str(alone), "--take", "autoencoder"]) == 0
    assert main(["start", *arguments, "--out", str(codec), "--take", "codec"]) == 0
    assert not (codec / "language_model").exists()
    assert [path.name for path in alone.iterdir()] == ["autoencoder"]
    song = render(held_out_plan(config, 0))
    expected = load_autoencoder(config, trained[0]).eval().encode(song)
    for run in (whole, alone, codec):
        assert torch.equal(load_autoencoder(config, run).eval().encode(song), expected)
    anew = replace(config, flow=replace(config.flow, steps=1))
    STAGES["flow"](anew, whole, CPU)
    ours, theirs = assemble_codec(config, whole), assemble_codec(config, trained[0])
    assert torch.equal(ours.scalar_model.decoder[0].weight, theirs.scalar_model.decoder[0].weight)
    name = "cond_feature_emb.weight"
    assert not torch.equal(ours.flow_matching.state_dict()[name], theirs.flow_matching.state_dict()[name])
    (folder / ENCODER).unlink()
    assert main(["start", *arguments, "--out", str(tmp_path / "none"), "--take", "autoencoder"]) == 2


@pytest.mark.skipif("HEARTMULA" not in os.environ, reason="HEARTMULA names no program")
def test_cpp_program_makes_a_song(
    config: Config, trained: tuple[Path, dict[str, tuple[float, float]]], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    arguments = ["export", "--config", str(CONFIG), "--out", str(trained[0]), "--to", str(folder)]
    assert main(arguments) == 0
    program = os.environ["HEARTMULA"]
    request = ["--lyrics_text", LYRICS, "--tags_text", TAGS, "--max_audio_length_ms", "800", "--seed", "1"]
    limits = ["--codec_steps", "2", "--threads", "1", "--save_path", str(tmp_path / "song.wav"), "--json"]
    done = subprocess.run(
        [program, "generate", "--model_path", str(folder), *request, *limits], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert result["frames"] >= 1
    assert (tmp_path / "song.wav").stat().st_size > 44

    checkpoint = load_checkpoint(folder)
    texts = [LYRICS, TAGS, "<tag>Größe, 3 o'clock!\r\n\n  é</tag>"]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    done = subprocess.run(
        [program, "tokenize", "--model_path", str(folder), "--jsonl", str(tmp_path / "texts.jsonl")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ids = [json.loads(line) for line in done.stdout.splitlines()]
    assert ids == [checkpoint.tokenizer.encode(text).ids for text in texts]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[flow]\nsteps = 8", "[flow]\nstepz = 8", "[flow] has no stepz"),
        ("dim = 128", "dim = 64", "the features have 128"),
        ("seed = 5", "", "'seed' is missing"),
    ],
)
def test_broken_configuration(tmp_path: Path, capsys: pytest.CaptureFixture, old: str, new: str, message: str) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(CONFIG.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert main(["rvq", "--config", str(broken), "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_stage_that_needs_another_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["flow", "--config", str(CONFIG), "--out", str(tmp_path)]) == 2
    assert "stage autoencoder is not finished" in capsys.readouterr().err
