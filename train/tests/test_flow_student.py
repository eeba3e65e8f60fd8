"""Flow maps and the stage that makes a student: identities, every loss, resuming, folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from make_student_case import SIZES
from torch import Tensor

from heartmula_train.__main__ import main
from heartmula_train.codec.config import CodecConfig
from heartmula_train.codec.flow_map import (
    consistency_error,
    eulerian_error,
    guidance_error,
    interval_error,
    lagrangian_error,
    moved,
)
from heartmula_train.codec.flow_sampler import sample_latents
from heartmula_train.codec.heartcodec import HeartCodec
from heartmula_train.codec.trajectories import Passages, guided_velocity, solve
from heartmula_train.codec.velocity_transformer import time_features
from heartmula_train.evaluation import student_losses
from heartmula_train.evaluation.program import write_codes
from heartmula_train.song.checkpoint import (
    CODEC_FOLDER,
    load_codec,
    read_json,
    read_tensors,
    save_codec,
    stored_tensors,
    write_file,
)
from heartmula_train.stages.config import FlowStudent, read_student_config
from heartmula_train.stages.flow_student import LOSSES, FlowStudentTask, mean_velocity, student_of
from heartmula_train.stages.loop import LAST, train
from heartmula_train.stages.run import QUANTIZER
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.stages.trajectories import (
    CROPS,
    Codes,
    codes_of_files,
    read_solutions,
    shard_path,
)

CONFIG = Path(__file__).with_name("minute_student.toml")
CPU = torch.device("cpu")
TEACHER = replace(CodecConfig(**SIZES), dim=128, codebook_dim=8)


def _codec(seed: int = 1) -> HeartCodec:
    torch.manual_seed(seed)
    codec = HeartCodec(TEACHER)
    for layer in codec.flow_matching.vq_embed.layers:
        layer._codebook.embed.normal_()
        layer._codebook.initted.fill_(True)
    return codec.eval()


def _passages(codec: HeartCodec, held: list[int], frames: int = 24) -> Passages:
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(SIZES["codebook_size"], (len(held), frames // 2, 8), generator=generator)
    noise = torch.randn(len(held), frames, TEACHER.out_channels, generator=generator)
    in_context = torch.randn(noise.shape, generator=generator)
    counts = torch.tensor(held)
    in_context *= (torch.arange(frames)[None] < counts[:, None])[..., None]
    with torch.no_grad():
        return Passages(codec.flow_matching.condition(codes), noise, in_context, counts)


# dx/dt = A x: its flow map is (exp(A (t - s)) - 1) / (t - s), its derivatives known
_A = torch.tensor([[-0.7, 1.1, 0.0], [-0.4, 0.3, 0.2], [0.1, -0.9, 0.5]], dtype=torch.float64)


def _exact(x: Tensor, _s: Tensor, interval: Tensor) -> Tensor:
    """By its series, which is also there for an interval of 0."""
    total, term = torch.zeros_like(x), x @ _A.T
    for order in range(1, 40):
        total = total + term
        term = (term @ _A.T) * interval[:, None, None] / (order + 1)
    return total


def _slope(x: Tensor, _t: Tensor) -> Tensor:
    return x @ _A.T


def _times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


ERRORS: dict[str, Callable[[Callable], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "guidance": lambda u: lambda x, s, t: guidance_error(u, _slope, x, s),
    "interval": lambda u: lambda x, s, t: interval_error(u, x, s, moved(_exact, x, s, t), t),
    "consistency": lambda u: (
        lambda x, s, t: consistency_error(u, x, s, moved(_exact, x, s, (s + t) / 2), (s + t) / 2, t)
    ),
    "lagrangian": lambda u: lambda x, s, t: lagrangian_error(u, _slope, x, s, t),
    "eulerian": lambda u: lambda x, s, t: eulerian_error(u, _slope, x, s, t),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_exact_map_has_no_error(kind: str) -> None:
    x = torch.randn(3, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    s, t = _times(0.0, 0.25, 0.7), _times(1.0, 0.5, 0.75)
    scale = _slope(x, s).abs().max()
    assert ERRORS[kind](_exact)(x, s, t).abs().max() < 1e-12 * scale
    wrong = ERRORS[kind](lambda x, s, d: 1.1 * _exact(x, s, d))(x, s, t)
    assert wrong.abs().max() > 1e-3 * scale


def test_time_features_have_their_derivative() -> None:
    t = torch.tensor([0.1, 0.7])
    _, rates = torch.func.jvp(time_features, (t,), (torch.ones(2),))
    a = t.double()[:, None] * 1000 * torch.exp(-np.log(1e4) * torch.arange(256).double() / 256)
    expected = torch.cat((-torch.sin(a), torch.cos(a)), 1) * (a / t[:, None]).repeat(1, 2)
    assert torch.allclose(rates.double(), expected, rtol=1e-3, atol=1e-1)


@torch.no_grad()
def test_student_begins_as_its_teacher() -> None:
    """U(x, s, interval) = v(x, s): intervals do nothing yet."""
    codec = _codec()
    student = student_of(codec, (2, 1)).flow_matching.estimator
    passages = _passages(codec, [0, 6])
    x, s = torch.randn(passages.noise.shape), torch.tensor([0.25, 0.5])
    expected = guided_velocity(codec.flow_matching.estimator, passages, passages.clamp(x, s[:, None, None]), s, 1.0)
    for interval in (0.0, 0.5):
        actual = mean_velocity(student, passages)(x, s, torch.full((2,), interval))
        assert torch.equal(actual, expected)


@torch.no_grad()
@pytest.mark.parametrize("held", [0, 6])
def test_solutions_are_those_of_the_sampler(held: int) -> None:
    """Of second order: twice the steps, a quarter of the error; knots lie on the way."""
    passages = _passages(_codec(), [held])
    mu, noise, context = passages.mu[0], passages.noise[0], passages.in_context[0, :held]
    channels = noise.shape[-1]

    def estimator(h: Tensor, t: Tensor) -> Tensor:
        """Smooth in time, unlike a random transformer; every frame hears the others."""
        x, rest = h[..., :channels], h[..., channels:].sum(-1, keepdim=True)
        return torch.sin(2 * x + 3 * t[:, None, None]) + 0.3 * rest - x.mean(1, keepdim=True)

    fine = sample_latents(estimator, mu, noise, context, 4000, 1.25)
    errors = [float((solve(estimator, passages, steps, 1.25)[0, -1] - fine).norm()) for steps in (20, 40)]
    print(errors)
    assert 3.0 < errors[0] / errors[1] < 5.0
    knots = solve(estimator, passages, 40, 1.25, 4)[0]
    assert torch.equal(knots[0], noise)
    half = 0.5 * noise + 0.5 * passages.in_context[0]
    assert torch.allclose(knots[2, :held], half[:held], atol=1e-5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec and its quantizer, as the demo has them."""
    folder = tmp_path_factory.mktemp("checkpoint")
    codec = _codec()
    save_codec(codec, folder / CODEC_FOLDER, torch.bfloat16)
    quantizer = FeatureQuantizer(TEACHER)
    quantizer.vq.load_state_dict(codec.flow_matching.vq_embed.state_dict())
    write_file(folder / QUANTIZER, stored_tensors(quantizer, torch.float32))
    return folder


@pytest.fixture(scope="module")
def run(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by its command."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["flow_student", "--config", str(CONFIG), "--from", str(checkpoint), "--out", str(folder)]) == 0
    return folder


def _task(checkpoint: Path, run: Path, **settings: object) -> FlowStudentTask:
    """On the solutions that the run has made."""
    teacher = load_codec(checkpoint / CODEC_FOLDER)
    config = read_student_config(CONFIG, teacher.config)
    config = replace(config, flow_student=replace(config.flow_student, **settings))

    def no_song(_index: int) -> Tensor:
        raise AssertionError("the run's folder has all solutions")

    task = FlowStudentTask(config, teacher, Codes(no_song, no_song), run / "flow_student" / "solutions")
    task.prepare()
    return task


def test_run_reports_distances(run: Path) -> None:
    figures = (run / "flow_student" / "figures.json").read_text(encoding="utf-8")
    assert all(
        f"{name}_{steps}" in figures for name in ("log_mel_db", "si_sdr_db", "levels_changed") for steps in (4, 2, 1)
    )


def test_contexts_are_the_passages_before(checkpoint: Path, run: Path) -> None:
    solutions = read_solutions(shard_path(run / "flow_student" / "solutions", CROPS, 0), list(range(8)), CPU)
    knots, held = solutions.knots, solutions.held.tolist()
    assert held[:4] == [0] * 4
    assert all(held[4:])
    for row in range(4, 8):
        assert torch.equal(knots[row, -1, : held[row]], knots[row - 4, -1, -held[row] :])
        assert torch.equal(solutions.codes[row, : held[row] // 2], solutions.codes[row - 4, -held[row] // 2 :])
    passages = solutions.passages(load_codec(checkpoint / CODEC_FOLDER).flow_matching)
    assert torch.allclose(passages.clamp(knots[:, 1], 0.25), knots[:, 1], atol=2e-3)


@pytest.mark.parametrize("kind", [*LOSSES, "own points"])
def test_every_loss_can_be_trained(checkpoint: Path, run: Path, kind: str) -> None:
    """It falls, but for the two whose targets run away from a random transformer, which is rough in time."""
    name = "interval" if kind == "own points" else kind
    own_points = float(kind == "own points")
    task = _task(checkpoint, run, losses=((name, 1.0),), own_points=own_points, window_part=0.0, weight_power=0.0)
    trained = [p for p in task.module.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.03 * torch.randn_like(parameter))
    optimizer = torch.optim.Adam(trained, 1e-3)
    values = []
    for _ in range(6):
        loss = task.losses(0, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    print(kind, values)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained if p.requires_grad)
    assert np.isfinite(values).all()
    if kind not in ("lagrangian", "eulerian"):
        assert values[-1] < 0.9 * values[0]


def test_late_losses_follow(checkpoint: Path, run: Path) -> None:
    task = _task(checkpoint, run, late_losses=(("lagrangian", 1.0),), losses=(("interval", 1.0),), late_part=0.5)
    assert "interval" in task.losses(1, 0.4)
    assert "lagrangian" in task.losses(1, 0.6)


def test_cut_off_run_goes_on_as_if_never_cut(checkpoint: Path, run: Path, tmp_path: Path) -> None:
    def settings(steps: int) -> FlowStudent:
        return replace(_task(checkpoint, run).settings, steps=steps, save_every_s=0.0, decay_part=0.0)

    train(_task(checkpoint, run), settings(4), tmp_path / "whole", 5, CPU)
    task = _task(checkpoint, run)
    losses = task.losses

    def until_cut(step: int, progress: float) -> dict[str, Tensor]:
        if step == 2:
            raise KeyboardInterrupt
        return losses(step, progress)

    task.losses = until_cut
    with pytest.raises(KeyboardInterrupt):
        train(task, settings(4), tmp_path / "cut", 5, CPU)
    assert (tmp_path / "cut" / LAST).exists()
    train(_task(checkpoint, run), settings(4), tmp_path / "cut", 5, CPU)
    whole, cut = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("whole", "cut"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name


def test_whole_export_and_changes_are_one_student(checkpoint: Path, run: Path) -> None:
    arguments = ["export_student", "--config", str(CONFIG), "--from", str(checkpoint), "--out", str(run)]
    whole, changes = checkpoint / "whole", checkpoint / "students" / "changes"
    assert main([*arguments, "--to", str(whole)]) == 0
    assert main([*arguments, "--to", str(changes), "--changes"]) == 0
    ours, theirs = load_codec(whole), load_codec(changes)
    assert ours.config.student_steps == (4, 2, 1)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name
    stored, base = read_tensors(changes), read_tensors(checkpoint / CODEC_FOLDER)
    assert not any("proj_in" in name or "scalar_model" in name for name in stored)
    assert any("interval_embedder.linear_2.weight" in name for name in stored)
    assert len(stored) < len(base)
    trained = torch.load(run / "flow_student" / "final.pt", weights_only=True)
    for name, tensor in ours.flow_matching.estimator.state_dict().items():
        assert torch.equal(tensor, trained[name].bfloat16().float()), name


def test_losses_are_compared_from_one_beginning(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "losses.json"
    arguments = ["--config", str(CONFIG), "--model_path", str(checkpoint), "--minutes", "0.002", "--shards", "1"]
    assert student_losses.main([*arguments, "--songs", "1", "--keep", str(tmp_path), "--out", str(out)]) == 0
    rows = read_json(out)["losses"]
    assert {row["loss"] for row in rows} == set(LOSSES) - {"guidance"}
    beginning = student_of(load_codec(checkpoint / CODEC_FOLDER), (4, 2, 1)).flow_matching.estimator.state_dict()
    for row in rows:
        assert row["steps"] > 0
        assert row["4 steps"]["log_mel_db"] > 0.0
        trained = torch.load(tmp_path / row["loss"] / "final.pt", weights_only=True)
        assert any(not torch.equal(tensor, beginning[name]) for name, tensor in trained.items())


def test_codes_of_files_are_enough(tmp_path: Path) -> None:
    for number in range(3):
        write_codes(np.full((20, 8), number), tmp_path / f"{number}.codes.safetensors")
    codes = codes_of_files(str(tmp_path / "*.codes.safetensors"), 1)
    assert [int(codes.training(index)[0, 0]) for index in range(4)] == [1, 2, 1, 2]
    assert int(codes.held_out(0)[0, 0]) == 0
    with pytest.raises(ValueError, match="codes files"):
        codes_of_files(str(tmp_path / "*.codes.safetensors"), 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 6", "stepz = 6", "no stepz"),
        ('"proj_in"', '"proj_inn"', "has no proj_inn"),
        ("teacher_steps = 4", "teacher_steps = 6", "must divide"),
        ("fine_steps = 4", "losses = { fine = 1.0 }", "no loss fine"),
    ],
)
def test_broken_configuration(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, old: str, new: str, message: str
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(CONFIG.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert main(["flow_student", "--config", str(broken), "--from", str(checkpoint), "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
