"""Dumps of songs (`heartmula dump`): what the language model saw and wanted at each frame, read in passages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from heartmula_train.lm.config import CODEBOOKS

SUFFIX = ".dump.safetensors"
METADATA = "heartmula_dump"
VERSION = 1


@dataclass(frozen=True)
class Frames:
    """Passages of songs [B, T, ...], or frames without their order [N, ...]."""

    codes: Tensor  # [B, T, 8]
    hidden: Tensor  # [B, T, 2, D]: what a frame is made from, conditional and unconditional
    tokens: Tensor  # [B, T, 8, K]: the target's kept tokens, the best first; -1 is none
    logits: Tensor  # [B, T, 8, K]: guided, before temperature
    temperature: Tensor  # [B, T]
    valid: Tensor  # [B, T]: not beyond the song's end

    def part(self, begin: int, end: int | None) -> Frames:
        """Frames begin to end of each passage."""
        return Frames(*(getattr(self, field.name)[:, begin:end] for field in fields(self)))

    def flat(self) -> Frames:
        """The valid frames, without their order."""
        return Frames(*(getattr(self, field.name)[self.valid] for field in fields(self)))

    def to(self, device: torch.device) -> Frames:
        """On a device."""
        return Frames(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Dump:
    """A song's file."""

    path: Path
    frames: int
    embed_dim: int
    language_model: str
    temperature: float
    topk: int
    cfg_scale: float

    @staticmethod
    def open(path: Path) -> Dump:
        """Reads its header."""
        try:
            with safe_open(path, "pt") as file:
                told = json.loads((file.metadata() or {}).get(METADATA, "{}"))
                shapes = {name: file.get_slice(name).get_shape() for name in ("codes", "hidden", "tokens", "logits")}
        except (SafetensorError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: {error}; is this a dump of `heartmula dump`?") from error
        if told.get("version") != VERSION:
            raise ValueError(f"{path}: its {METADATA} is of version {told.get('version')}, not {VERSION}")
        frames, rows, width = shapes["hidden"]
        kept = [frames, CODEBOOKS, told["topk"]]
        if shapes["codes"] != kept[:2] or any(shapes[name] != kept for name in ("tokens", "logits")) or rows > 2:
            raise ValueError(f"{path}: shapes do not belong together: {shapes}, topk {told['topk']}")
        if not told["temperature"] > 0:
            raise ValueError(f"{path}: its temperature is {told['temperature']}; there is nothing to draw")
        return Dump(
            path, frames, width, told["language_model"], float(told["temperature"]), told["topk"], told["cfg_scale"]
        )

    def read(self, begin: int, length: int) -> Frames:
        """Frames [1, length, ...]; those beyond the end are the last one again, and not valid."""
        end = min(begin + length, self.frames)
        with safe_open(self.path, "pt") as file:
            codes, hidden, tokens, logits = (
                file.get_slice(name)[begin:end] for name in ("codes", "hidden", "tokens", "logits")
            )
        again = torch.arange(length).clamp(max=end - begin - 1)
        return Frames(
            codes[again].long()[None],
            hidden[again].float().expand(-1, 2, -1)[None],  # without guidance, one row for both
            tokens[again].long()[None],
            logits[again].float()[None],
            torch.full((1, length), self.temperature),
            (torch.arange(length) < end - begin)[None],
        )


@dataclass(frozen=True)
class Dumps:
    """The dumps of one language model: the last files are held out, in turn of each temperature."""

    training: list[Dump]
    held_out: list[Dump]

    @staticmethod
    def open(folder: Path, held_out: int) -> Dumps:
        """Every *.dump.safetensors of a folder, in the order of their names."""
        files = [Dump.open(path) for path in sorted(folder.glob("*" + SUFFIX))]
        if len(files) <= held_out or held_out < 1:
            raise ValueError(f"{folder}: {len(files)} files *{SUFFIX}; {held_out} are held out, at least one, and more")
        for name in ("language_model", "embed_dim", "cfg_scale", "topk"):
            for file in files:
                if getattr(file, name) != getattr(files[0], name):
                    raise ValueError(
                        f"{file.path}: its {name} is {getattr(file, name)}, but {files[0].path.name} has"
                        f" {getattr(files[0], name)}; a drafter learns from dumps of one kind"
                    )
        of_its_heat: dict[float, list[Dump]] = {}
        for file in reversed(files):
            of_its_heat.setdefault(file.temperature, []).append(file)
        last = sorted(files, key=lambda file: (of_its_heat[file.temperature].index(file), file.temperature))[:held_out]
        return Dumps([file for file in files if file not in last], [file for file in files if file in last])

    @property
    def first(self) -> Dump:
        """For what all have in common."""
        return self.training[0]

    def crops(self, rng: np.random.Generator, count: int, length: int) -> Frames:
        """Passages from anywhere in the songs to train on, each frame as likely as another; [count, length]."""
        weights = np.array([file.frames for file in self.training], np.float64)
        picks = rng.choice(len(self.training), count, p=weights / weights.sum())
        begins = [int(rng.integers(max(1, self.training[pick].frames - length + 1))) for pick in picks]
        return _together([self.training[pick].read(begin, length) for pick, begin in zip(picks, begins, strict=True)])

    def held_out_crops(self, count: int, length: int, stride: int) -> Iterator[tuple[float, Frames]]:
        """The songs that are held out, by temperature, in batches of at most `count` passages."""
        for temperature in sorted({file.temperature for file in self.held_out}):
            places = [
                (file, begin)
                for file in self.held_out
                if file.temperature == temperature
                for begin in range(0, max(1, file.frames - max(0, length - stride)), stride)
            ]
            for first in range(0, len(places), count):
                batch = places[first : first + count]
                yield temperature, _together([file.read(begin, length) for file, begin in batch])


def _together(passages: list[Frames]) -> Frames:
    return Frames(*(torch.cat([getattr(p, field.name) for p in passages]) for field in fields(Frames)))
