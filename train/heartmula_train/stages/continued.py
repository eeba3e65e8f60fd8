"""What stages share that train a finished language model further: its songs, batches, and losses of whole songs."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from heartmula_train.evaluation.program import read_codes
from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.music.lyrics import WIDE_WORDS
from heartmula_train.music.render import render
from heartmula_train.song.frame_loop import FRAME_MS
from heartmula_train.stages.config import Continued, ContinuedConfig
from heartmula_train.stages.language_model import Example
from heartmula_train.stages.loop import Task, freeze_parts
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.stages.songs import SongPool, held_out_plan, training_plan
from heartmula_train.text.prompt import GenConfig, make_prompt

WHOLE_MODEL = ("loss", "codebook0", "codebook1", "codebook2", "depth")


@dataclass(frozen=True)
class Examples:
    """Songs by their numbers: to learn from, and to validate on."""

    training: Callable[[int], Example]
    held_out: Callable[[int], Example]


@dataclass(frozen=True)
class Prompting:
    """What makes prompts of texts."""

    tokenizer: Tokenizer
    gen_config: GenConfig

    def example(self, tags: str, lyrics: str, codes: Tensor, ends: bool = True) -> Example:
        """A song's codes [T, 8], with the end frame if it `ends`."""
        end = torch.full((1, CODEBOOKS), self.gen_config.audio_eos_id, dtype=codes.dtype)
        prompt = make_prompt(self.tokenizer, self.gen_config, tags, lyrics)
        return Example(prompt, torch.cat((codes, end)) if ends else codes)


def examples_of_music(config: ContinuedConfig, quantizer: FeatureQuantizer, prompting: Prompting) -> Examples:
    """Songs that the kit renders."""
    quantizer = quantizer.eval()

    def song(plan_of: Callable[..., object], index: int) -> Example:
        plan = plan_of(config, index, config.continued.max_seconds, WIDE_WORDS)
        return prompting.example(plan.tags, plan.lyrics, quantizer.encode(render(plan)))

    return Examples(lambda index: song(training_plan, index), lambda index: song(held_out_plan, index))


def examples_of_files(pattern: str, held_out: int, prompting: Prompting) -> Examples:
    """Of codes files, as `generate` writes them with their requests; the first `held_out` are validated on."""
    paths = [Path(path) for path in sorted(glob.glob(pattern))]
    if len(paths) <= held_out:
        raise ValueError(f"{pattern}: {len(paths)} codes files; more than the {held_out} to validate on are needed")

    def song(path: Path) -> Example:
        with safe_open(path, "numpy") as file:
            request = (file.metadata() or {}).get("request")
        if not request:
            raise ValueError(f"{path}: has no request, which would tell lyrics and tags")
        fields = json.loads(request)
        codes = torch.from_numpy(read_codes(path)).long()
        # A song that is shorter than it might have been has ended by itself.
        ends = not fields.get("ignore_eos", False) and len(codes) <= fields["max_audio_length_ms"] // FRAME_MS
        return prompting.example(fields["tags"], fields["lyrics"], codes, ends)

    return Examples(
        training=lambda index: song(paths[held_out + index % (len(paths) - held_out)]),
        held_out=lambda index: song(paths[index]),
    )


@dataclass(frozen=True)
class Batch:
    """Songs in rows: the prompt, then the frames that the model hears; its length [B] and the codes [F, 8] of each."""

    inputs: Tensor  # [B, T, D]
    begins: list[int]
    codes: list[Tensor]

    def rows_and_positions(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of the outputs that each frame of the songs is made from, [N] and [N]: the first from the prompt's last."""
        counts = [len(codes) for codes in self.codes]
        rows = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        positions = torch.cat([begin - 1 + torch.arange(n) for begin, n in zip(self.begins, counts, strict=True)])
        return rows.to(device), positions.to(device)


class ContinuedTask(Task):
    """Songs of a checkpoint's language model."""

    module: HeartMuLa

    def __init__(self, config: ContinuedConfig, model: HeartMuLa, examples: Examples) -> None:
        self.config = config
        self.settings: Continued = config.continued
        self.module = model
        freeze_parts(model, self.settings.frozen, "frozen: the language model")
        model.backbone.recompute = model.decoder.recompute = self.settings.recompute
        self._pool = SongPool(self.settings.pool, examples.training, self.settings.fresh)
        self._held_out = [examples.held_out(number) for number in range(self.settings.validation_songs)]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.module.audio_head.device

    def songs(self, step: int, rng: np.random.Generator) -> list[Example]:
        """Of a step, of similar length."""
        pool = sorted(self._pool.at(step), key=lambda example: len(example.prompt.text_ids) + len(example.codes))
        begin = self.settings.batch * int(rng.integers(max(1, len(pool) // self.settings.batch)))
        return pool[begin : begin + self.settings.batch]

    def batch(
        self,
        examples: list[Example],
        conditional: Iterable[bool],
        heard: Callable[[Tensor], Tensor] = lambda codes: codes[:-1],
    ) -> Batch:
        """Inputs of songs, each with its text or without it; `heard` makes of codes [F, 8] what the model hears."""
        rows, begins, songs = [], [], []
        for example, with_text in zip(examples, conditional, strict=True):
            text_ids = torch.tensor(example.prompt.text_ids, device=self.device)
            prompt = self.module.embed_prompt(text_ids, example.prompt.reference_index, bool(with_text))
            songs.append(example.codes[: self.settings.max_frames].to(self.device))
            begins.append(len(text_ids))
            rows.append(torch.cat((prompt, self.module.embed_frames(heard(songs[-1])))))
        return Batch(pad_sequence(rows, batch_first=True), begins, songs)

    def both_streams(self, examples: list[Example]) -> Batch:
        """Inputs [2 B, T, D]: all songs with their text, then all without; begins and codes are of the first half."""
        streams = [self.batch(examples, [with_text] * len(examples)) for with_text in (True, False)]
        return Batch(torch.cat([stream.inputs for stream in streams]), streams[0].begins, streams[0].codes)

    def chosen(self, count: int, most: int, rng: np.random.Generator) -> Tensor:
        """Some of `count` frames, [min(most, count)]."""
        return torch.from_numpy(rng.permutation(count)[:most]).to(self.device)

    def weights(self) -> Tensor:
        """Of the codebooks, [8]; their sum is 1."""
        weights = self.settings.codebook_decay ** torch.arange(CODEBOOKS, device=self.device)
        return weights / weights.sum()

    def first_nats(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden [N, D] and codes [N, 8] -> nats of code 0, a scalar."""
        return F.cross_entropy(self.module.first_logits(hidden).float(), codes[:, 0])

    def depth_nats(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden [N, D] and codes [N, 8] -> nats of codes 1 to 7, [7]."""
        logits = self.module.depth_logits(hidden, codes)
        return F.cross_entropy(logits.float().transpose(1, 2), codes[:, 1:], reduction="none").mean(0)

    def guided(self, logits: Tensor) -> Tensor:
        """Logits [2, ..., V] of both streams -> [..., V]."""
        conditional, unconditional = logits
        return unconditional + (conditional - unconditional) * self.settings.guidance

    def guided_logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden [2, N, D] of both streams and codes [N, 8] -> guided logits of all codes, [N, 8, V]."""
        first = self.module.first_logits(hidden)[..., None, :]  # [2, N, 1, V]
        rest = self.module.depth_logits(hidden.flatten(0, 1), codes.repeat(2, 1)).unflatten(0, (2, -1))
        return self.guided(torch.cat((first, rest), -2).float())


def whole_model_figures(loss: Tensor, first: Tensor, depth: Tensor) -> dict[str, Tensor]:
    """Named as those of stage language_model; depth [7]."""
    values = (loss, first, depth[0], depth[1], depth.mean())
    return dict(zip(WHOLE_MODEL, values, strict=True))
