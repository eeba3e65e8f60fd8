"""The language model's GPU path on a CPU: labels, losses, a step, a run; graphs themselves need a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor
from untrained import untrained_run

from heartmula_train.__main__ import main
from heartmula_train.evaluation.program import Program, Sampling, read_codes
from heartmula_train.lm.config import TransformerConfig
from heartmula_train.lm.fused import fused_block, wide_rope
from heartmula_train.lm.transformer import Transformer
from heartmula_train.music.plan import BEAT_CODES, SongPlan, draw_plan
from heartmula_train.music.render import render
from heartmula_train.sampling.sampler import SamplingSettings, seeded_noise
from heartmula_train.song.checkpoint import load_checkpoint
from heartmula_train.song.frame_loop import generate_frames
from heartmula_train.stages.config import Config, GpuLanguageModel, LanguageModel, read_config
from heartmula_train.stages.gpu.losses import CountingModel, RowLosses
from heartmula_train.stages.gpu.muon import Muon, orthogonal
from heartmula_train.stages.gpu.rows import FRAME, LABELS, NONE, PAD, REFERENCE, frame_labels, make_row, syllable_labels
from heartmula_train.stages.gpu.songs import SongMaker, SongsBeside
from heartmula_train.stages.gpu.step import StepTrainer, run_once
from heartmula_train.stages.gpu.store import SongStore
from heartmula_train.stages.gpu.train import GpuTraining, counting_weight, rate, train_on_gpu
from heartmula_train.stages.language_model import LanguageModelTask, make_tokenizer
from heartmula_train.stages.loop import LAST
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.text.byte_level import special_ids
from heartmula_train.text.prompt import make_prompt

CPU = torch.device("cpu")
CONFIG = Path(__file__).with_name("minute.toml")
SETTINGS = GpuLanguageModel(
    tokens=384,
    depth_frames=64,
    lengths=(192, 256),
    songs_per_length=8,
    begin_with=16,
    learning_rate=1e-2,
    muon_rate=1e-2,
    steps=6,
    max_seconds=10.0,
    longer_seconds=12.0,
    longer=0.5,
    warmup_steps=1,
    average=0.5,
    bf16=False,
    validation_songs=4,
    log_every=2,
)


@pytest.fixture(scope="module")
def config() -> Config:
    minute = read_config(CONFIG)
    return replace(minute, lm=replace(minute.lm, text_vocab_size=704), language_model=SETTINGS)


@pytest.fixture(scope="module")
def quantizer(config: Config) -> FeatureQuantizer:
    found = FeatureQuantizer(config.codec)
    features = torch.cat([found.standardised(render(draw_plan(config.seed, i, 8, 10))) for i in range(3)])
    found.start(features, torch.Generator().manual_seed(1))
    return found.eval()


@pytest.fixture(scope="module")
def tokenizer(config: Config) -> Tokenizer:
    return make_tokenizer(config)


@pytest.fixture(scope="module")
def maker(config: Config, quantizer: FeatureQuantizer, tokenizer: Tokenizer) -> SongMaker:
    return SongMaker(config, quantizer, tokenizer)


@pytest.fixture(scope="module")
def store(maker: SongMaker) -> SongStore:
    held = SongStore(SETTINGS.lengths, SETTINGS.songs_per_length, CPU)
    held.add([maker.make(number).row for number in range(12)])
    return held


# Labels ----------------------------------------------------------------------------------------------------------


def _beats(plan: SongPlan) -> Iterator[tuple[str, int]]:
    """(vowel, degree of the chord) of every beat, by walking through the plan."""
    for section in plan.sections:
        sung = "".join(line.vowels.ljust(2 * plan.beats_per_bar, "-") for line in section.lines)
        for beat in range(section.bars * plan.beats_per_bar):
            bar = beat // plan.beats_per_bar
            yield (sung[beat] if sung else "-"), section.progression[bar % len(section.progression)]


@pytest.mark.parametrize("number", range(4))
def test_frames_are_labelled_as_a_walk_through_the_plan_finds_them(number: int) -> None:
    plan = draw_plan(3, number, 8, 24)
    beats = list(_beats(plan))
    labels = frame_labels(plan, plan.codes)
    names = list(LABELS)
    for frame, found in enumerate(labels):
        beat, phase = divmod(frame, BEAT_CODES[plan.tempo])
        row = dict(zip(names, found.tolist(), strict=True))
        assert (row["beat"], row["phase"]) == (beat, phase)
        assert row["left"] == min(31, max(0, len(beats) - beat))
        if beat >= len(beats):
            assert row["vowel"] == row["chord"] == 0, "the last chord dies away"
            continue
        vowel, degree = beats[beat]
        assert row["vowel"] == "-aeiou".index(vowel)
        root = (row["chord"] - 1) % 12
        scale = {"major": [0, 2, 4, 5, 7, 9, 11], "minor": [0, 2, 3, 5, 7, 8, 11]}[plan.mode]
        assert root == (plan.tonic + scale[degree]) % 12
        assert (row["chord"] > 12) == ((scale[(degree + 2) % 7] - scale[degree]) % 12 == 3)
    assert len(set(labels[:, names.index("key")])) == 1


def test_keys_differ_where_tonic_or_mode_do() -> None:
    found = {}
    for number in range(200):
        plan = draw_plan(4, number, 8, 10)
        found.setdefault((plan.tonic, plan.mode), set()).add(int(frame_labels(plan, 1)[0, list(LABELS).index("key")]))
    assert len(found) == 12
    assert {value for values in found.values() for value in values} == set(range(12))


def test_a_syllables_token_has_the_label_of_the_frames_that_sing_it(maker: SongMaker, tokenizer: Tokenizer) -> None:
    for number in range(6):
        plan = maker.plan(number, is_held_out=False)
        tokens = tokenizer.encode(plan.lyrics)
        vowels = frame_labels(plan, plan.codes)[:, list(LABELS).index("vowel")]
        found = syllable_labels(plan, tokenizer)
        assert len(found) == len(plan.beat_vowels.replace("-", ""))
        assert "".join("-aeiou"[vowel] for _, _, vowel in found) == plan.beat_vowels.replace("-", "")
        for _, beat, vowel in found:
            assert vowels[beat * BEAT_CODES[plan.tempo]] == vowel
        sung = tokenizer.decode([tokens.ids[token] for token, _, _ in found]).split()
        lines = " ".join(line.text for section in plan.sections for line in section.lines)
        assert "".join(sung) == lines.replace(" ", "")


def test_a_row_is_the_prompt_and_then_the_codes(config: Config, tokenizer: Tokenizer) -> None:
    plan = draw_plan(5, 0, 8, 10)
    codes = np.arange(8 * plan.codes).reshape(-1, 8) % 16
    row = make_row(plan, codes, tokenizer, special_ids(tokenizer, config.audio_eos_id))
    begin = int(np.argmax(row.tokens == FRAME))
    assert (row.tokens[begin:] == FRAME).all()
    assert np.array_equal(row.codes[begin:], codes)
    assert (row.tokens[:begin] == REFERENCE).sum() == 1
    assert np.array_equal(row.labels[begin - 1 : -1], frame_labels(plan, plan.codes)), "labels are of what follows"
    assert (row.labels[-1] == NONE).all(), "no frame follows the last one"


def test_a_tokenizer_of_other_pieces_is_refused(config: Config) -> None:
    minute = read_config(CONFIG)
    plan = draw_plan(5, 0, 8, 10)
    with pytest.raises(ValueError, match="not a piece a syllable"):
        syllable_labels(plan, make_tokenizer(minute))


# The forward pass --------------------------------------------------------------------------------------------------


def test_fused_block_is_the_block() -> None:
    """Outputs and gradients, with grouped keys."""
    torch.manual_seed(2)
    shape = TransformerConfig(2, 4, 2, 32, 48, 64)
    stack, x = Transformer(shape), torch.randn(3, 20, 32)
    rope = tuple(table[:20] for table in wide_rope(shape, 64))
    outcomes = []
    for fused in (False, True):
        stack.zero_grad()
        given = x.clone().requires_grad_(True)
        out = given
        for block in stack.layers:
            out = fused_block(out, block, rope) if fused else block(out, stack._cos[:20], stack._sin[:20], None, 0)
        out.square().sum().backward()
        outcomes.append([out.detach(), given.grad, *(p.grad for p in stack.layers.parameters())])
    for plain, fused in zip(*outcomes, strict=True):
        assert torch.allclose(plain, fused, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


def _plain_task(config: Config, quantizer: FeatureQuantizer, tokenizer: Tokenizer) -> LanguageModelTask:
    """The plain stage with all frames of whole songs, nothing dropped or exchanged."""
    settings = LanguageModel(
        steps=1, batch=1, learning_rate=1e-2, pool=1, validation_songs=1, max_seconds=12.0, max_frames=1000,
        codebook_decay=SETTINGS.codebook_decay,
    )  # fmt: skip
    return LanguageModelTask(replace(config, language_model=settings), quantizer, tokenizer)


def _quiet(config: Config) -> Config:
    """No dropping, no noise; every frame reaches the depth decoder."""
    still = replace(SETTINGS, drop_text=0.0, noisy_songs=0.0, depth_frames=10**6, average=0.0, lengths=(400,))
    return replace(config, language_model=still)


def test_losses_of_rows_are_those_of_the_plain_stage(
    config: Config, quantizer: FeatureQuantizer, tokenizer: Tokenizer, maker: SongMaker
) -> None:
    task, numbers = _plain_task(config, quantizer, tokenizer), range(4)
    model = CountingModel(config.lm)
    task.module.load_state_dict(model.lm.state_dict())
    held = SongStore((400,), 4, CPU)
    held.add([maker.make(number).row for number in numbers])
    losses = RowLosses(_quiet(config), 400, CPU, torch.float32)
    found = losses(model, held.tables[0], training=False).named()
    examples = [task._example(maker.plan(number, False)) for number in numbers]
    expected = task._losses(examples, np.random.default_rng(0), 0.0, 10**6)
    for name in ("codebook0", "codebook1", "codebook2", "depth"):
        assert found[name] == pytest.approx(float(expected[name].detach()), rel=1e-5), name


def test_what_is_dropped_or_exchanged_is_as_said(config: Config, store: SongStore) -> None:
    rows = store.tables[0].chosen(slice(store.counts[0]))
    tokens, codes = rows.tokens.long(), rows.codes.long()
    losses = RowLosses(replace(config, language_model=replace(SETTINGS, noisy_songs=1.0)), 256, CPU, torch.float32)
    torch.manual_seed(3)
    many_tokens, many_codes = tokens.repeat(200, 1), codes.repeat(200, 1, 1)
    keeps, past = losses._disturbed(many_tokens, many_codes)
    is_frame = many_tokens == FRAME
    assert 0.05 < 1 - keeps.float().mean() < 0.15
    changed = (past != many_codes).any(-1)
    assert 0.10 < changed[is_frame].float().mean() < 0.16, "up to 0.3, evenly"
    for row in range(len(codes)):
        own = {tuple(frame) for frame in codes[row][tokens[row] == FRAME].tolist()}
        assert {tuple(frame) for frame in past[row][is_frame[row]].tolist()} <= own, "frames of another song"
    x = losses._embedded(CountingModel(config.lm).lm, tokens, codes, torch.zeros(len(tokens), 1, dtype=torch.bool))
    text = (tokens >= 0) | (tokens == REFERENCE)
    assert torch.equal(x[text], x[text][:1].expand(int(text.sum()), -1)), "without the text, all prompts are one"
    assert (x[tokens == PAD] == 0).all()


# The update --------------------------------------------------------------------------------------------------------


def _muon_float64(weight: Tensor, gradients: list[Tensor], lr: float, decay: float) -> Tensor:
    """By its description, one matrix at a time in float64."""
    w, momentum = weight.double(), torch.zeros_like(weight, dtype=torch.float64)
    for gradient in gradients:
        g = gradient.double()
        momentum = 0.95 * momentum + 0.05 * g
        x = 0.05 * g + 0.95 * momentum
        x = x / x.norm()
        for _ in range(5):
            x = 3.4445 * x - 4.7750 * (x @ x.T @ x) + 2.0315 * (x @ x.T @ x @ x.T @ x)
        w = w - lr * decay * w - lr * 0.2 * max(w.shape) ** 0.5 * x
    return w


@pytest.mark.parametrize("shape", [(12, 12), (8, 20), (20, 8)])
def test_muon_is_its_description(shape: tuple[int, int]) -> None:
    torch.manual_seed(4)
    weights = [torch.nn.Parameter(torch.randn(shape)) for _ in range(2)]
    gradients = [[torch.randn(shape) for _ in weights] for _ in range(3)]
    expected = [_muon_float64(w.detach(), [step[i] for step in gradients], 0.03, 0.1) for i, w in enumerate(weights)]
    optimizer = Muon(weights, torch.tensor(0.03), 0.1)
    for step in gradients:
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
    for weight, wanted in zip(weights, expected, strict=True):
        assert torch.allclose(weight.double(), wanted, rtol=1e-5, atol=1e-5)


def test_orthogonal_has_singular_values_near_one() -> None:
    torch.manual_seed(5)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 24, 40)))
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3


def test_a_step_is_the_plain_step(
    config: Config, quantizer: FeatureQuantizer, tokenizer: Tokenizer, maker: SongMaker
) -> None:
    """Against the plain stage's loss, autograd, clipping, AdamW and the Muon described above."""
    quiet, numbers = _quiet(config), range(2)
    task = _plain_task(config, quantizer, tokenizer)
    trainer = StepTrainer(quiet, CPU)
    trainer.set_weights(task.module.state_dict())
    before = {name: p.detach().clone() for name, p in task.module.named_parameters()}
    held = SongStore((400,), 2, CPU)
    held.add([maker.make(number).row for number in numbers])
    trainer.prepare(held, [0])
    for name, p in trainer.master.lm.named_parameters():
        assert torch.equal(p, before[name]), "preparing changes nothing"
    trainer.step(0, np.arange(2), rate=1.0, counting=0.0)

    losses = task._losses([task._example(maker.plan(n, False)) for n in numbers], np.random.default_rng(0), 0.0, 10**6)
    losses["loss"].backward()
    assert trainer.figures()["loss"] == pytest.approx(float(losses["loss"].detach()), rel=1e-5)
    named = dict(task.module.named_parameters())
    unused = "muq_linear.weight"
    trained = {name: p for name, p in named.items() if name != unused}
    for p in trained.values():
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad  # the unconditional embedding
    torch.nn.utils.clip_grad_norm_(list(trained.values()), quiet.language_model.clip)
    is_matrix = {n: p.ndim == 2 and (".layers." in n or n.startswith("projection")) for n, p in trained.items()}
    adam = torch.optim.AdamW(
        [
            {"params": [p for n, p in trained.items() if not is_matrix[n] and p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for n, p in trained.items() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=SETTINGS.learning_rate,
        betas=(0.9, 0.98),
    )
    adam.step()
    after = dict(trainer.master.lm.named_parameters())
    assert torch.equal(after[unused], before[unused])
    for name, p in trained.items():
        if is_matrix[name]:
            wanted = _muon_float64(before[name], [p.grad], SETTINGS.muon_rate, 0.1).float()
        else:
            wanted = p.detach()
        moved = (wanted - before[name]).norm()
        # Adam's first step is a sign: where a gradient is next to nothing, its sign is a matter of rounding.
        assert (after[name] - wanted).norm() <= 1e-2 * moved + 1e-9, name
    exported = trainer.averaged(quiet).state_dict()
    assert all(torch.equal(exported[name], p) for name, p in after.items()), "average = 0 keeps nothing of the past"


def test_another_way_to_capture_gets_the_works_largest_first(config: Config, store: SongStore) -> None:
    """What a GPU records and launches is each length's whole step."""
    trainer, launched, recorded = StepTrainer(config, CPU), [], []

    def capture(works: list) -> list:
        recorded.extend(run_once(works))
        return [lambda i=i: (launched.append(i), works[i]()) for i in range(len(works))]

    trainer.prepare(store, [0, 1], capture)
    sizes = [trainer.rows(store, index) * store.lengths[index] for index in (0, 1)]
    order = sorted((0, 1), key=lambda index: -sizes[index])
    assert len(recorded) == 2
    for index in (0, 1):
        trainer.step(index, np.zeros(trainer.rows(store, index)), 1.0, 0.1)
    assert launched == [order.index(0), order.index(1)]
    assert np.isfinite(trainer.figures()["loss"])


# Songs and runs ----------------------------------------------------------------------------------------------------


def test_store_replaces_the_oldest_and_is_restored(maker: SongMaker) -> None:
    rows = [maker.make(number).row for number in range(5)]
    held = SongStore((400,), 3, CPU)
    held.add(rows[:2])
    held.add(rows[2:])
    assert (held.counts, held.added) == ([3], 5)
    for place, number in ((0, 3), (1, 4), (2, 2)):
        tokens = held.tables[0].tokens[place].numpy()
        count = len(rows[number].tokens)
        assert np.array_equal(tokens[:count], rows[number].tokens)
        assert (tokens[count:] == PAD).all()
    again = SongStore((400,), 3, CPU)
    again.load_state_dict(held.state_dict())
    again.add(rows[:1])
    held.add(rows[:1])
    assert all(torch.equal(a, b) for a, b in zip(again.tables[0], held.tables[0], strict=True))
    with pytest.raises(ValueError, match="other lengths"):
        SongStore((300,), 3, CPU).load_state_dict(held.state_dict())
    short = SongStore((10,), 3, CPU)
    short.add(rows)
    assert short.added == 0, "too long for every table"


def test_songs_of_processes_are_those_of_the_training(
    config: Config, quantizer: FeatureQuantizer, tokenizer: Tokenizer, maker: SongMaker
) -> None:
    two = replace(config, language_model=replace(SETTINGS, workers=2))
    songs = SongsBeside(two, quantizer, tokenizer, first=7, held_out=3)
    try:
        held_out = songs.held_out(3)
        assert [song.number for song in held_out] == [0, 1, 2]
        found = []
        while len(found) < 4:
            found += songs.take()
    finally:
        songs.close()
    assert len({song.number for song in found}) == len(found)
    assert all(song.number >= 7 for song in found)
    for song in [*held_out, *found[:2]]:
        expected = maker.make(song.number, song.is_held_out).row
        assert np.array_equal(song.row.tokens, expected.tokens)
        assert np.array_equal(song.row.codes, expected.codes)
        assert np.array_equal(song.row.labels, expected.labels)


_STARTS_A_PROCESS = """
import time
import test_gpu_language_model as t
if __name__ == "__main__":
    minute = t.read_config(t.CONFIG)
    settings = t.replace(t.SETTINGS, workers=1)
    config = t.replace(minute, lm=t.replace(minute.lm, text_vocab_size=704), language_model=settings)
    songs = t.SongsBeside(config, t.FeatureQuantizer(config.codec).eval(), t.make_tokenizer(config), 0, 1)
    songs.held_out(1)
    print(songs._processes[0].pid, flush=True)
    time.sleep(600)
"""


def _is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_processes_end_when_the_training_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "starts.py"
    script.write_text(_STARTS_A_PROCESS, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    ) as training:
        pid = int(training.stdout.readline())
        assert _is_alive(pid)
        training.kill()
    deadline = time.monotonic() + 60
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_alive(pid)


def test_rates_warm_up_and_fall() -> None:
    settings = replace(SETTINGS, warmup_steps=10)
    assert rate(settings, 0, 0.0) == pytest.approx(0.1)
    assert rate(settings, 50, 0.0) == pytest.approx(1.0)
    assert rate(settings, 50, 0.5) == pytest.approx(0.51)
    assert rate(settings, 50, 1.0) == pytest.approx(0.02)
    assert [counting_weight(settings, part) for part in (0.0, 0.7, 1.0)] == pytest.approx([0.1, 0.1, 0.02])


class _CutOff(Exception):
    """As a machine that is switched off."""


def test_cut_off_run_goes_on_as_if_never_cut(
    config: Config,
    quantizer: FeatureQuantizer,
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    always = replace(config, language_model=replace(SETTINGS, save_every_s=0.0))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    figures = train_on_gpu(always, quantizer, tokenizer, whole, CPU)
    one_step = GpuTraining.one_step

    def failing(run: GpuTraining) -> None:
        if run.step == 3:
            raise _CutOff
        one_step(run)

    with monkeypatch.context() as patch:
        patch.setattr(GpuTraining, "one_step", failing)
        with pytest.raises(_CutOff):
            train_on_gpu(always, quantizer, tokenizer, cut, CPU)
    assert (cut / LAST).exists()
    train_on_gpu(always, quantizer, tokenizer, cut, CPU)
    weights = [torch.load(folder / "final.pt", weights_only=True) for folder in (whole, cut)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
    assert figures["songs"] > SETTINGS.begin_with
    assert not (cut / LAST).exists()
    assert json.loads((whole / "figures.json").read_text(encoding="utf-8")) == figures
    assert train_on_gpu(always, quantizer, tokenizer, whole, CPU) == figures, "a finished stage is left alone"


@pytest.mark.skipif("HEARTMULA" not in os.environ, reason="HEARTMULA names no program")
def test_cpp_program_sings_what_pytorch_does(tmp_path: Path) -> None:
    """The stage's command, the export, and the likeliest codes of both."""
    run, folder = tmp_path / "run", tmp_path / "checkpoint"
    run.mkdir()
    content = CONFIG.read_text(encoding="utf-8").replace("text_vocab_size = 320", "text_vocab_size = 704")
    table = {**{name: list(v) if isinstance(v, tuple) else v for name, v in asdict(SETTINGS).items()}, "minutes": 10.0}
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
    path = tmp_path / "minute_gpu.toml"
    path.write_text(content[: content.index("[language_model]")] + "[language_model_gpu]\n" + lines, encoding="utf-8")
    untrained_run(read_config(path), run)
    arguments = ["--config", str(path), "--out", str(run)]
    assert main(["language_model", *arguments, "--device", "cpu"]) == 0
    assert main(["export", *arguments, "--to", str(folder), "--dtype", "f32"]) == 0

    tags, lyrics = "slow,happy,waltz,piano", "[intro]\n\n[verse]\nblue moon over the sea\n"
    codes = tmp_path / "codes.safetensors"
    sampling = Sampling(cfg_scale=1.5, topk=1, temperature=1.0)
    # An untrained model's likeliest codes are near each other: in bf16 another one may be first.
    program = Program(os.environ["HEARTMULA"], more=("--mula_dtype", "fp32"))
    program.generate(folder, (tags, lyrics), tmp_path / "a.wav", 1, 800, sampling, codes)
    checkpoint = load_checkpoint(folder)
    prompt = make_prompt(checkpoint.tokenizer, checkpoint.gen_config, tags, lyrics)
    expected = generate_frames(
        checkpoint.lm, checkpoint.gen_config, prompt, 800, SamplingSettings(1, 1.0, 1.5), seeded_noise(1, 21)
    )
    assert read_codes(codes).tolist() == expected.tolist()
