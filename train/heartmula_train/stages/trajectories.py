"""What a student learns from: a teacher's solutions for passages of songs, kept in files (codec_speed.md C3).

Nothing but codes is needed: the latents in context are the teacher's own, of the passage before.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from heartmula_train.codec.config import LATENTS_PER_CODE
from heartmula_train.codec.heartcodec import FlowMatching
from heartmula_train.codec.trajectories import Passages, solve
from heartmula_train.codec.windows import OVERLAP_CODES, WINDOW_CODES
from heartmula_train.evaluation.program import read_codes
from heartmula_train.music.render import render
from heartmula_train.song.checkpoint import write_file
from heartmula_train.stages.config import FlowStudent, StudentConfig
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.stages.songs import held_out_plan, training_plan

CROPS, WINDOWS = "crops", "windows"

# Codes [T, 8] of a song by its number.
CodeSource = Callable[[int], Tensor]


@dataclass(frozen=True)
class Codes:
    """Songs to learn from, and songs to validate on."""

    training: CodeSource
    held_out: CodeSource


def codes_of_music(config: StudentConfig, quantizer: FeatureQuantizer) -> Codes:
    """Of songs that the kit renders."""
    quantizer = quantizer.eval()
    return Codes(
        training=lambda index: quantizer.encode(render(training_plan(config, index))),
        held_out=lambda index: quantizer.encode(render(held_out_plan(config, index))),
    )


def codes_of_files(pattern: str, held_out: int) -> Codes:
    """Of codes files, as `generate --save_codes` writes them; the first `held_out` are validated on."""
    paths = [Path(path) for path in sorted(glob.glob(pattern))]
    if len(paths) <= held_out:
        raise ValueError(f"{pattern}: {len(paths)} codes files; more than the {held_out} to validate on are needed")

    def song(path: Path) -> Tensor:
        return torch.from_numpy(read_codes(path)).long()

    return Codes(
        training=lambda index: song(paths[held_out + index % (len(paths) - held_out)]),
        held_out=lambda index: song(paths[index]),
    )


@dataclass(frozen=True)
class Solutions:
    """Solved passages of one length."""

    codes: Tensor  # [B, T / 2, 8]
    knots: Tensor  # [B, intervals + 1, T, C], from noise to latents
    held: Tensor  # [B], frames of context

    def passages(self, flow: FlowMatching) -> Passages:
        """As the flow is asked for them."""
        noise = self.knots[:, 0]
        frames = torch.arange(noise.shape[1], device=noise.device)
        in_context = self.knots[:, -1] * (frames[None] < self.held[:, None])[..., None]
        return Passages(flow.condition(self.codes), noise, in_context, self.held)


def make_solutions(
    settings: FlowStudent, flow: FlowMatching, songs: list[Tensor], kind: str, rng: np.random.Generator
) -> Solutions:
    """Passages of the songs' codes: a part of them each goes on from one without context, whose end it is given."""
    whole = kind == WINDOWS
    frames = WINDOW_CODES if whole else settings.crop_frames // LATENTS_PER_CODE
    count = settings.windows if whole else settings.passages
    following = round(settings.in_context * count)
    longest = min(OVERLAP_CODES, frames - 1)
    song_of = rng.integers(len(songs), size=count)
    begins = np.array([rng.integers(songs[song].shape[0]) for song in song_of])
    held = np.zeros(count, np.int64)
    held[count - following :] = longest if whole else rng.integers(1, longest + 1, following)
    before = np.arange(following) % max(1, count - following)  # the passage that each of the last ones follows
    song_of[count - following :] = song_of[before]
    begins[count - following :] = begins[before] + frames - held[count - following :]
    device = flow.cond_feature_emb.weight.device
    codes = torch.stack(
        [
            songs[song][(begin + torch.arange(frames)) % songs[song].shape[0]]
            for song, begin in zip(song_of, begins, strict=True)
        ]
    ).to(device)
    channels = flow.estimator.proj_out.ffn_2.out_features
    shape = (count, frames * LATENTS_PER_CODE, channels)
    noise = torch.from_numpy(rng.standard_normal(shape, np.float32)).to(device)
    held_frames = torch.from_numpy(held * LATENTS_PER_CODE).to(device)
    in_context = torch.zeros_like(noise)
    knots: list[Tensor] = []
    for part in (slice(0, count - following), slice(count - following, count)):
        for row in range(part.start, part.stop):
            if held[row]:
                given = int(held_frames[row])
                in_context[row, :given] = knots[0][before[row - part.start], -1, -given:]
        passages = Passages(flow.condition(codes[part]), noise[part], in_context[part], held_frames[part])
        finest = max(settings.student_steps)
        knots.append(solve(flow.estimator, passages, settings.teacher_steps, settings.guidance, finest))
    return Solutions(codes, torch.cat(knots), held_frames)


def shard_path(folder: Path, kind: str, number: int) -> Path:
    """Of a file of solutions."""
    return folder / f"{kind}-{number:05}.safetensors"


@torch.no_grad()
def make_shard(
    config: StudentConfig, flow: FlowMatching, codes: CodeSource, kind: str, number: int, folder: Path
) -> None:
    """Solves and writes one file, unless it is there."""
    path = shard_path(folder, kind, number)
    if path.exists():
        return
    settings = config.flow_student
    rng = np.random.default_rng((config.seed, 6 if kind == CROPS else 7, number))
    first = number if kind == CROPS else settings.shards + number
    songs = [codes(first * settings.songs_per_shard + i) for i in range(settings.songs_per_shard)]
    device = flow.cond_feature_emb.weight.device
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
        solutions = make_solutions(settings, flow, songs, kind, rng)
    tensors = {
        "codes": solutions.codes.short(),
        "knots": solutions.knots.half(),
        "held": solutions.held.int(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    write_file(beside, {name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    beside.replace(path)


def read_solutions(path: Path, picks: list[int], device: torch.device) -> Solutions:
    """Some of a file's passages."""
    with safe_open(path, "pt") as file:
        knots, held = file.get_slice("knots"), file.get_tensor("held")
        codes = file.get_tensor("codes")[picks].long()
        read = torch.cat([knots[pick : pick + 1].float() for pick in picks])
    return Solutions(codes.to(device), read.to(device), held[picks].long().to(device))
