"""Stages that train a language model further: couplings, packed sequences, formulas, resuming, exports, errors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TINY
from safetensors.numpy import save_file
from test_stages import _CutOff
from torch import Tensor

from heartmula_train.__main__ import main
from heartmula_train.codec.config import CodecConfig
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.lm.transformer import RecordedKeys
from heartmula_train.sampling.coupling import coupled_match, gumbel, log_probabilities, noise_that_draws
from heartmula_train.song.checkpoint import CODEC_FOLDER, lm_folder, load_checkpoint, load_lm
from heartmula_train.stages.config import CONTINUED, EarlyExit, read_continued_config
from heartmula_train.stages.continued import ContinuedTask, Examples
from heartmula_train.stages.early_exit import dropout_rates, exit_weights, exits_on
from heartmula_train.stages.further import figures_of, make_task
from heartmula_train.stages.jacobi_forcing import JacobiForcingTask
from heartmula_train.stages.loop import LAST, train
from heartmula_train.stages.run import QUANTIZER

CONFIG = Path(__file__).with_name("minute_further.toml")
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
CPU = torch.device("cpu")
STAGES = list(CONTINUED)
PLAIN = EarlyExit(steps=1, batch=1, learning_rate=0.0)


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Codes files of four songs that say how they were asked for; the last ends by itself."""
    folder = tmp_path_factory.mktemp("codes")
    rng = np.random.default_rng(1)
    for number, frames in enumerate((31, 26, 31, 20)):
        request = {"tags": "piano,calm", "lyrics": "[verse]\nhello\n" * (1 + number % 2), "max_audio_length_ms": 2400}
        tensors = {"codes": rng.integers(0, 64, (frames, 8)).astype(np.int32)}
        save_file(tensors, folder / f"{number}.codes.safetensors", {"request": json.dumps(request)})
    return str(folder / "*.codes.safetensors")


def _task(stage: str, codes: str) -> ContinuedTask:
    return make_task(stage, CONFIG, TINY, codes)


def _distributions(kinds: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Two sets of log p [kinds, tokens], of six tokens each."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, kinds, tokens, generator=generator)
    logits[1] = 0.6 * logits[0] + 0.5 * logits[1]
    return log_probabilities(logits[0], 0.8, 6), log_probabilities(logits[1], 0.8, 6)


def test_coupled_match_is_how_often_the_same_noise_draws_the_same() -> None:
    log_p, log_q = _distributions(3, 9)
    torch.manual_seed(1)
    noise = gumbel(torch.Size((40_000, 3, 9)), CPU)
    counted = ((log_p + noise).argmax(-1) == (log_q + noise).argmax(-1)).float().mean(0)
    formula = coupled_match(log_p, log_q, 6)
    assert torch.allclose(formula, counted, atol=0.01)
    p, q = log_p.exp().double(), log_q.exp().double()
    for row, expected in enumerate(formula):
        both = [i for i in range(9) if p[row, i] > 0 and q[row, i] > 0]
        plain = sum(1 / sum(max(p[row, j] / p[row, i], q[row, j] / q[row, i]) for j in range(9)) for i in both)
        assert float(expected) == pytest.approx(float(plain), rel=1e-5)
    assert torch.allclose(coupled_match(log_p, log_p, 6), torch.ones(3))


def test_noise_draws_the_codes_that_it_was_made_for() -> None:
    """And is plain noise if these were drawn by the distribution."""
    log_p, _ = _distributions(1, 9)
    log_p = log_p.expand(60_000, -1)
    torch.manual_seed(2)
    codes = (log_p + gumbel(log_p.shape, CPU)).argmax(-1)
    noise = noise_that_draws(log_p, codes)
    assert torch.equal((log_p + noise).argmax(-1), codes)
    assert torch.allclose(noise.mean(0), torch.full((9,), 0.5772), atol=0.03)
    assert torch.allclose(noise.var(0), torch.full((9,), np.pi**2 / 6), atol=0.06)
    assert float(torch.corrcoef(noise.T).fill_diagonal_(0.0).abs().max()) < 0.02
    never = log_p[0].argmin().expand(5)  # a token that is not kept
    assert torch.isfinite(noise_that_draws(log_p[:5], never)).all()


def test_branches_are_what_the_model_says_behind_other_frames() -> None:
    """Blocks beside a song, as packed, against a sequence for each of them."""
    model = load_lm(TINY / lm_folder())
    generator = torch.Generator().manual_seed(4)
    song, other = (torch.randn(2, n, 64, generator=generator) for n in (9, 4))
    begins = torch.tensor([3, 5])  # of the two blocks of two positions each
    positions = begins[:, None] + torch.arange(2)
    mask = torch.zeros(4, 9 + 4, dtype=torch.bool)
    mask[:, :9] = torch.arange(9) < begins.repeat_interleave(2)[:, None]
    mask[:, 9:] = torch.block_diag(*[torch.ones(2, 2).tril()] * 2).bool()
    gradients = []
    for recompute in (False, True):
        model.backbone.recompute = recompute
        model.zero_grad()
        keys = RecordedKeys(model.config.backbone.num_layers)
        clean = model.backbone(song, keys)
        packed = model.backbone.branches(other, positions.flatten().expand(2, -1), keys, mask.expand(2, -1, -1))
        for block, begin in enumerate(begins.tolist()):
            own = slice(2 * block, 2 * block + 2)
            alone = model.backbone(torch.cat((song[:, :begin], other[:, own]), 1))[:, begin:]
            assert torch.allclose(packed[:, own], alone, atol=1e-5)
        (packed.square().sum() + clean.sum()).backward()
        gradients.append([p.grad.clone() for p in model.backbone.parameters()])
    for kept, again in zip(*gradients, strict=True):
        assert torch.allclose(kept, again, rtol=1e-4, atol=1e-4)


def test_exits_are_models_of_fewer_layers() -> None:
    model = load_lm(TINY / lm_folder())
    inputs = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(5))
    exits = list(model.backbone.exits(inputs))
    layers = list(model.backbone.layers)
    for count in range(1, 4):
        model.backbone.layers = torch.nn.ModuleList(layers[:count])
        assert torch.equal(exits[count - 1], model.backbone(inputs))
    # The first song does without layer 2, the second without 1 and 3.
    model.backbone.layers = torch.nn.ModuleList(layers)
    left = list(model.backbone.exits(inputs, torch.tensor([[True, False], [False, True], [True, False]])))[-1]
    for song, kept in enumerate(([0, 2], [1])):
        model.backbone.layers = torch.nn.ModuleList(layers[i] for i in kept)
        assert torch.allclose(left[song], model.backbone(inputs)[song], atol=1e-6)


def test_dropout_and_exits_follow_their_formulas() -> None:
    rates = dropout_rates(PLAIN, 5, 0.0)
    assert rates == pytest.approx([0.1 * (2 ** (layer / 4) - 1) for layer in range(5)])
    assert (rates[0], rates[-1]) == (0.0, pytest.approx(0.1))
    ramp = replace(PLAIN, dropout_ramp=0.5)
    assert dropout_rates(ramp, 5, 0.25) == pytest.approx(rates * (2**0.5 - 1))
    assert dropout_rates(ramp, 5, 0.8) == pytest.approx(rates)
    assert exits_on(PLAIN, 5, 3, 0.0).all()
    third = replace(PLAIN, exits_every=3)
    seen = [np.flatnonzero(exits_on(third, 7, step, 0.0)) + 1 for step in range(4)]
    assert [list(layers) for layers in seen] == [[3, 6, 7], [1, 4, 7], [2, 5, 7], [3, 6, 7]]
    gradual = replace(PLAIN, gradual=True)
    assert [int(exits_on(gradual, 5, 0, part).sum()) for part in (0.0, 0.1, 0.25, 0.4, 1.0)] == [1, 2, 3, 5, 5]
    weights = exit_weights(PLAIN, 4, np.array([True, True, False, True]))
    plain = np.array([0.2, 0.6, 0.0, 4 + 0.2 * 6])
    assert weights == pytest.approx(plain / plain.sum())


def test_trajectory_ends_at_the_song(codes: str) -> None:
    """Frames that are not forced are drawn by the song's noise: after one iteration more, one more is right."""
    task = _task("jacobi_forcing", codes)
    assert isinstance(task, JacobiForcingTask)
    examples = task._pool.at(0)
    torch.manual_seed(6)
    with torch.no_grad():
        heard = task._hear(examples)
        frames = torch.tensor([[2, 7], [4, 12]])[..., None] + torch.arange(3)
        song = heard.codes_at(frames)
        for count in range(3):
            blocks = task._trajectory(heard, frames, torch.full((2, 2), count))
            assert torch.equal(blocks.guesses[:, :, :count], song[:, :, :count])
        assert not torch.equal(blocks.guesses, song)
        # Behind the song itself the noise draws the song: nothing is forced here.
        logits = task._logits(heard.behind(frames), song)
        noise = noise_that_draws(log_probabilities(logits, 1.0, 50), song)
        drawn = task._draw(heard.behind(frames).flatten(1, 3), noise.flatten(0, 2)).view(song.shape)
    kept = torch.isfinite(log_probabilities(logits, 1.0, 50).gather(-1, song[..., None])[..., 0])
    so_far = kept.cumprod(-1).bool()
    assert so_far.float().mean() > 0.2
    assert torch.equal(drawn[so_far], song[so_far])


def test_early_exit_without_exits_or_dropout_is_the_usual_loss(codes: str) -> None:
    task = _task("early_exit", codes)
    plain = {"layer_dropout": 0.0, "exit_scale": 0.0, "exit_depth": 0.0, "drop_text": 0.0, "depth_frames": 100}
    task.settings = replace(task.settings, **plain)
    batch = task.batch(task._pool.at(0), [True, True])
    rows, positions = batch.rows_and_positions(CPU)
    songs = torch.cat(batch.codes)
    with torch.no_grad():
        losses = task.losses(0, 0.0)
        hidden = task.module.backbone(batch.inputs)[rows, positions]
        nats = torch.cat((task.first_nats(hidden, songs)[None], task.depth_nats(hidden, songs)))
    weights = task.settings.codebook_decay ** np.arange(8)
    assert float(losses["loss"]) == pytest.approx(float(np.average(nats, weights=weights)), rel=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_learns_and_goes_on_as_if_never_cut(stage: str, codes: str, tmp_path: Path) -> None:
    settings = _task(stage, codes).settings
    task = _task(stage, codes)
    before = figures_of(task, CPU)
    after = train(task, settings, tmp_path / "whole", 5, CPU)
    print(before, after)
    assert after["loss"] < before["loss"]
    matches = [value for name, value in after.items() if name.startswith(("match", "frame", "code0"))]
    assert matches
    assert all(0.0 <= value <= 1.0 for value in matches)
    with pytest.raises(KeyboardInterrupt):
        train(_CutOff(_task(stage, codes), 2), settings, tmp_path / "cut", 5, CPU)
    assert (tmp_path / "cut" / LAST).exists()
    train(_task(stage, codes), settings, tmp_path / "cut", 5, CPU)
    whole, cut = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("whole", "cut"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name


@pytest.mark.parametrize("stage", STAGES)
def test_commands_make_a_new_checkpoint(stage: str, codes: str, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "checkpoint"
    origin = ["--from", str(TINY), "--out", str(run)]
    assert main([stage, "--config", str(CONFIG), "--codes", codes, *origin]) == 0
    assert (run / stage / "figures_before.json").exists()
    assert main(["export_lm", *origin, "--to", str(out), "--dtype", "f32"]) == 0
    trained = torch.load(run / stage / "final.pt", weights_only=True)
    made, old = load_checkpoint(out), load_checkpoint(TINY)
    assert isinstance(made.lm, HeartMuLa)
    for name, tensor in made.lm.state_dict().items():
        assert torch.equal(tensor, trained[name]), name
    assert not torch.equal(made.lm.codebook0_head.weight, old.lm.codebook0_head.weight)
    for name, tensor in made.codec.state_dict().items():
        assert torch.equal(tensor, old.codec.state_dict()[name]), name
    assert made.gen_config == old.gen_config


def test_frozen_parts_stay(codes: str) -> None:
    task = _task("early_exit", codes)
    assert all(p.requires_grad for p in task.module.parameters())
    settings = replace(task.config, continued=replace(task.settings, frozen=("text_embeddings", "backbone.layers.0.")))
    examples = Examples(task._pool.at(0).__getitem__, lambda _: task._held_out[0])
    frozen = type(task)(settings, task.module, examples)
    names = {name for name, p in frozen.module.named_parameters() if not p.requires_grad}
    assert "text_embeddings.weight" in names
    assert {name for name in names if name.startswith("backbone")} == {
        name for name, _ in task.module.named_parameters() if name.startswith("backbone.layers.0.")
    }
    broken = replace(settings, continued=replace(task.settings, frozen=("encoder",)))
    with pytest.raises(ValueError, match="the language model has no encoder"):
        type(task)(broken, task.module, examples)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (lm_folder(), "early_exit trains it further"),
        ("tokenizer.json", "prompts are made of it"),
        ("gen_config.json", "prompts are made of it"),
        (QUANTIZER, "name codes files with --codes"),
    ],
)
def test_checkpoint_without_a_part_is_told_once(
    missing: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for part in (lm_folder(), CODEC_FOLDER, "tokenizer.json", "gen_config.json"):
        if part != missing:
            copy = shutil.copytree if (TINY / part).is_dir() else shutil.copy
            copy(TINY / part, tmp_path / part)
    arguments = ["--config", str(CONFIG), "--from", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main(["early_exit", *arguments]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert str(tmp_path / missing) in errors[0]
    assert message in errors[0]


def test_other_mistakes_are_told(tmp_path: Path, codes: str, capsys: pytest.CaptureFixture) -> None:
    run = ["--out", str(tmp_path)]
    assert main(["export_lm", "--from", str(TINY), *run]) == 2
    assert "has no language model" in capsys.readouterr().err
    assert main(["early_exit", "--config", str(CONFIG), *run]) == 2
    assert "needs --from CHECKPOINT" in capsys.readouterr().err
    assert main(["rvq", *run]) == 2
    assert "needs --config FILE" in capsys.readouterr().err
    save_file({"codes": np.zeros((30, 8), np.int32)}, tmp_path / "0.safetensors")
    shutil.copy(tmp_path / "0.safetensors", tmp_path / "1.safetensors")
    arguments = ["--config", str(CONFIG), "--from", str(TINY), "--codes", str(tmp_path / "*.safetensors"), *run]
    assert main(["jacobi_forcing", *arguments]) == 2
    assert "has no request" in capsys.readouterr().err


def test_songs_of_the_kit_are_taken_from_the_demo() -> None:
    """With its own quantizer and tokenizer."""
    demo = REPOSITORY / "demo"
    task = make_task("jacobi_forcing", CONFIG, demo)
    example = task._held_out[0]
    assert example.codes.shape[1] == 8
    assert (example.codes[-1] == 257).all()
    assert (example.codes[:-1] < 256).all()


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("demo_early_exit.toml", "early_exit"),
        ("demo_jacobi.toml", "jacobi_forcing"),
        ("early_exit.toml", "early_exit"),
        ("jacobi.toml", "jacobi_forcing"),
    ],
)
def test_configurations_are_read(name: str, stage: str) -> None:
    config = read_continued_config(CONFIGS / name, stage, CodecConfig())
    assert config.continued.learning_rate <= 3e-4
