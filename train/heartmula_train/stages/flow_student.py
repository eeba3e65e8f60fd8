"""Stage of its own: a student of a flow, with guidance and few steps in its weights (codec_speed.md C3).

Its teacher is a finished flow, in a checkpoint or a run; songs are needed as codes only.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from heartmula_train.codec.distances import log_mel_distance_db, si_sdr_db
from heartmula_train.codec.flow_map import (
    MeanVelocity,
    Velocity,
    consistency_error,
    eulerian_error,
    guidance_error,
    interval_error,
    lagrangian_error,
    moved,
    per_row,
)
from heartmula_train.codec.flow_sampler import sample_student
from heartmula_train.codec.heartcodec import HeartCodec, WindowSolver, song_of_windows
from heartmula_train.codec.trajectories import Passages, guided_velocity, solve
from heartmula_train.codec.velocity_transformer import VelocityTransformer, time_rates
from heartmula_train.codec.wave_decoder import round_to_levels
from heartmula_train.codec.windows import HOP_CODES, WINDOW_LATENTS
from heartmula_train.song.checkpoint import write_file
from heartmula_train.stages.config import FlowStudent, StudentConfig
from heartmula_train.stages.loop import Task, freeze_parts
from heartmula_train.stages.trajectories import (
    CROPS,
    WINDOWS,
    Codes,
    Solutions,
    make_shard,
    read_solutions,
    shard_path,
)

LOSSES = ("interval", "guidance", "lagrangian", "consistency", "eulerian")
_WEIGHT_FLOOR = 1e-3
_SMOOTH_RATE = 8.0  # radians over the whole time: faster features begin so much weaker in a student


def student_of(teacher: HeartCodec, steps: tuple[int, ...]) -> HeartCodec:
    """The teacher's weights; intervals do nothing yet, so that U(x, s, 0) = v(x, s), without guidance."""
    student = HeartCodec(replace(teacher.config, student_steps=steps))
    weights = student.state_dict()
    weights.update(teacher.state_dict())
    student.load_state_dict(weights)
    slow = (_SMOOTH_RATE / time_rates()).clamp(max=1.0).repeat(2)  # of cosines and sines
    with torch.no_grad():
        for name in ("adaln_single", "adaln_single_2"):
            embedder = student.flow_matching.estimator.get_submodule(name).interval_embedder
            embedder.linear_1.weight.mul_(slow)
            embedder.linear_2.weight.zero_()
            embedder.linear_2.bias.zero_()
    return student


def check_settings(settings: FlowStudent) -> None:
    """What no type says."""
    finest = max(settings.student_steps)
    if any(finest % steps for steps in settings.student_steps) or settings.teacher_steps % finest:
        raise ValueError("[flow_student] student_steps must divide the most of them, and this the teacher_steps")
    for losses in (settings.losses, settings.late_losses):
        if unknown := [name for name, _ in losses if name not in LOSSES]:
            raise ValueError(f"[flow_student] has no loss {', '.join(unknown)}; there are {', '.join(LOSSES)}")
    if settings.passages < settings.batch:
        raise ValueError("[flow_student] a file's passages must be enough for a batch")


def fine_solver(teacher: HeartCodec, steps: int, guidance: float) -> WindowSolver:
    """AB2 in many steps: what students are measured against."""

    def window(mu: Tensor, noise: Tensor, context: Tensor) -> Tensor:
        in_context = torch.zeros_like(noise)
        in_context[: context.shape[0]] = context
        held = torch.tensor([context.shape[0]], device=mu.device)
        passages = Passages(mu[None], noise[None], in_context[None], held)
        return solve(teacher.flow_matching.estimator, passages, steps, guidance)[0, -1]

    return window


def student_solver(estimator: VelocityTransformer, steps: int) -> WindowSolver:
    """The student's own grid."""
    return lambda mu, noise, context: sample_student(estimator, mu, noise, context, steps)


@dataclass(frozen=True)
class FineSong:
    """A song's fine solution, decoded once."""

    codec: HeartCodec
    codes: Tensor  # [T, 8]
    latents: Tensor  # [2 T, C]

    @cached_property
    @torch.no_grad()
    def samples(self) -> Tensor:
        """[2, S]."""
        return self.codec.scalar_model.decode(self.latents)

    @torch.no_grad()
    def distances(self, latents: Tensor) -> dict[str, float]:
        """Of other latents of the song to these, in the units of `compare` and of codec_pilot.md."""
        samples = self.codec.scalar_model.decode(latents)
        return {
            "log_mel_db": log_mel_distance_db(samples, self.samples),
            "si_sdr_db": si_sdr_db(samples, self.samples),
            "levels_changed": float((round_to_levels(latents) != round_to_levels(self.latents)).float().mean()),
        }


class FlowStudentTask(Task):
    """Errors of the flow map at points of the teacher's solutions, on the frames that are not in context."""

    def __init__(self, config: StudentConfig, teacher: HeartCodec, codes: Codes, folder: Path) -> None:
        self.config = config
        self.settings = config.flow_student
        check_settings(self.settings)
        self._teacher = teacher.eval().requires_grad_(False)
        self._codes = codes
        self._folder = folder
        torch.manual_seed(config.seed)
        self.module = student_of(teacher, self.settings.student_steps).flow_matching.estimator
        freeze_parts(self.module, self.settings.frozen, "[flow_student] frozen: the velocity transformer")
        self._fine: list[FineSong] = []

    def prepare(self) -> None:
        """Makes the files of solutions that are not there yet."""
        settings = self.settings
        for kind, shards in ((CROPS, settings.shards), (WINDOWS, settings.window_shards)):
            for number in range(shards):
                make_shard(self.config, self._teacher.flow_matching, self._codes.training, kind, number, self._folder)

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """One kind of loss a step; crops for most of the training, whole windows come last."""
        late = progress >= 1.0 - self.settings.late_part and self.settings.late_losses
        rng = np.random.default_rng((self.config.seed, 5, step))
        names, shares = zip(*(self.settings.late_losses if late else self.settings.losses), strict=True)
        kind = str(rng.choice(names, p=np.array(shares) / sum(shares)))
        solutions = self._solutions(rng, progress >= 1.0 - self.settings.window_part)
        passages = solutions.passages(self._teacher.flow_matching)
        # Plain attention has a forward derivative, which these two need; on a CPU its backward pass is faster, too.
        plain = kind in ("lagrangian", "eulerian") or solutions.knots.device.type == "cpu"
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            error = self._error(kind, rng, passages, solutions.knots)
        counted = (~passages.is_context[..., 0]).float()  # [B, T]
        squared = (error.square().mean(-1) * counted).sum(1) / counted.sum(1)
        weights = (squared.detach() + _WEIGHT_FLOOR) ** -self.settings.weight_power
        return {"loss": (weights * squared).mean(), kind: squared.mean()}

    def _solutions(self, rng: np.random.Generator, whole: bool) -> Solutions:
        settings, device = self.settings, self._teacher.flow_matching.cond_feature_emb.weight.device
        if whole:
            count = max(1, settings.batch * settings.crop_frames // WINDOW_LATENTS)
            path = shard_path(self._folder, WINDOWS, int(rng.integers(settings.window_shards)))
            return read_solutions(path, sorted(rng.choice(settings.windows, count, replace=False).tolist()), device)
        path = shard_path(self._folder, CROPS, int(rng.integers(settings.shards)))
        picks = rng.choice(settings.passages, settings.batch, replace=False)
        return read_solutions(path, sorted(picks.tolist()), device)

    def _error(self, kind: str, rng: np.random.Generator, passages: Passages, knots: Tensor) -> Tensor:
        """[B, T, C]."""
        u, v = mean_velocity(self.module, passages), self._velocity(passages)
        begin, end = self._intervals(rng, knots.shape[0])
        finest = max(self.settings.student_steps)

        def at(knot: np.ndarray) -> tuple[Tensor, Tensor]:
            """Points of the solutions, and their times."""
            rows = torch.from_numpy(knot).to(knots.device)
            return knots[torch.arange(len(knot), device=knots.device), rows], rows.float() / finest

        x, s = at(begin)
        if kind == "guidance":
            return guidance_error(u, v, x, s)
        if kind == "interval":
            if rng.random() < self.settings.own_points:
                return self._error_from_own_point(rng, u, knots)
            return interval_error(u, x, s, *at(end))
        if kind == "consistency":
            return consistency_error(u, x, s, *at(begin + 1), at(end)[1])
        # Any length: these are about how the map changes with time.
        t = s + (1.0 - s) * torch.from_numpy(rng.random(len(begin), np.float32)).to(s.device).clamp(min=0.02)
        return (lagrangian_error if kind == "lagrangian" else eulerian_error)(u, v, x, s, t)

    def _intervals(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """First and last knot of intervals of the student's grids, each grid as often as another."""
        finest = max(self.settings.student_steps)
        lengths = finest // np.array(rng.choice(self.settings.student_steps, count))
        begin = lengths * rng.integers(0, finest // lengths)
        return begin, begin + lengths

    def _error_from_own_point(self, rng: np.random.Generator, u: MeanVelocity, knots: Tensor) -> Tensor:
        """From where the student's own steps lead, back to the teacher's solution."""
        steps = int(rng.choice([steps for steps in self.settings.student_steps if steps > 1]))
        step, stride = int(rng.integers(1, steps)), max(self.settings.student_steps) // steps

        def time(k: int) -> Tensor:
            return torch.full((knots.shape[0],), k / steps, device=knots.device)

        x = knots[:, 0]
        with torch.no_grad():
            for k in range(step):
                x = moved(u, x, time(k), time(k + 1))
        return interval_error(u, x, time(step), knots[:, (step + 1) * stride], time(step + 1))

    def _velocity(self, passages: Passages) -> Velocity:
        """The teacher's, with guidance."""
        estimator, guidance = self._teacher.flow_matching.estimator, self.settings.guidance
        return lambda x, t: guided_velocity(estimator, passages, passages.clamp(x, per_row(t)), t, guidance)

    def validate(self) -> dict[str, float]:
        """Distances to the fine solution with the same noise, for each number of steps: the first 25.6 s of songs."""
        if not self._fine:
            self._fine = [self._fine_song(number) for number in range(self.settings.validation_songs)]
        figures = {}
        for steps in self.settings.student_steps:
            rows = []
            for number, song in enumerate(self._fine):
                solver = student_solver(self.module, steps)
                windows = self._teacher.solved_windows(song.codes, self._teacher.seeded_noise(number), solver)
                rows.append(song.distances(song_of_windows(windows, len(song.codes))))
            figures.update({f"{name}_{steps}": float(np.mean([row[name] for row in rows])) for name in rows[0]})
        return figures

    def _fine_song(self, number: int) -> FineSong:
        """A held-out song, kept in a file."""
        path = self._folder / f"held-out-{number:02}.safetensors"
        device = self._teacher.flow_matching.cond_feature_emb.weight.device
        if not path.exists():
            codes = self._codes.held_out(number)[:HOP_CODES].to(device)
            solver = fine_solver(self._teacher, self.settings.fine_steps, self.settings.guidance)
            windows = self._teacher.solved_windows(codes, self._teacher.seeded_noise(number), solver)
            fine = song_of_windows(windows, len(codes))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, {"codes": codes.int().cpu(), "latents": fine.cpu().contiguous()})
        tensors = load_file(path)
        return FineSong(self._teacher, tensors["codes"].long().to(device), tensors["latents"].to(device))


def mean_velocity(student: VelocityTransformer, passages: Passages) -> MeanVelocity:
    """U of a student, in float32."""

    def u(x: Tensor, s: Tensor, interval: Tensor) -> Tensor:
        return student(passages.inputs(passages.clamp(x, per_row(s))), s, interval).float()

    return u
