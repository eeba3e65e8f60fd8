"""What studies share that change the language model itself: songs of the kit's modules instead of the program's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heartmula_train.evaluation.plans import evaluation_plan
from heartmula_train.evaluation.program import Program, Sampling, write_codes
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.music.render import render
from heartmula_train.sampling.sampler import SamplingSettings, seeded_noise
from heartmula_train.song.checkpoint import Checkpoint
from heartmula_train.song.frame_loop import FRAME_MS, generate_frames
from heartmula_train.stages.continued import Prompting
from heartmula_train.stages.language_model import Example
from heartmula_train.stages.rvq import FeatureQuantizer


def examples_of(numbers: Iterable[int], prompting: Prompting, quantizer: FeatureQuantizer) -> list[Example]:
    """What the language model would have learned from these evaluation songs, as the kit renders them."""
    plans = [evaluation_plan(number) for number in numbers]
    return [prompting.example(plan.tags, plan.lyrics, quantizer.encode(render(plan))) for plan in plans]


def song_inputs(model: HeartMuLa, example: Example, conditional: bool = True) -> Tensor:
    """What the backbone gets of a song, [T, D]."""
    text_ids = torch.tensor(example.prompt.text_ids)
    prompt = model.embed_prompt(text_ids, example.prompt.reference_index, conditional)
    return torch.cat((prompt, model.embed_frames(example.codes[:-1])))


def song_nats(model: HeartMuLa, example: Example) -> Tensor:
    """Nats of each codebook of a song, [8]."""
    hidden = model.backbone(song_inputs(model, example)[None])[0, len(example.prompt.text_ids) - 1 :]  # [F, D]
    logits = torch.cat((model.first_logits(hidden)[:, None], model.depth_logits(hidden, example.codes)), 1)  # [F, 8, V]
    return F.cross_entropy(logits.transpose(1, 2), example.codes, reduction="none").mean(0)


@dataclass(frozen=True)
class KitSongs(Program):
    """The program, but for codes, which the kit's modules make."""

    checkpoint: Checkpoint | None = None

    def generate(
        self,
        model_path: Path,
        prompt: tuple[str, str],
        save_path: Path,
        seed: int,
        max_audio_length_ms: int,
        sampling: Sampling,
        save_codes: Path | None = None,
    ) -> dict[str, Any]:
        """As Program.generate; noise is not the program's, so the same seed is another song."""
        checkpoint, codes_path = self.checkpoint, save_codes or save_path.with_suffix(".codes.safetensors")
        example = Prompting(checkpoint.tokenizer, checkpoint.gen_config).example(*prompt, torch.empty(0, 8).long())
        settings = SamplingSettings(sampling.topk, sampling.temperature, sampling.cfg_scale)
        noise = seeded_noise(seed, checkpoint.lm.config.audio_vocab_size)
        frames = generate_frames(
            checkpoint.lm, checkpoint.gen_config, example.prompt, max_audio_length_ms, settings, noise
        )
        write_codes(frames.numpy(), codes_path)
        song = self.decode(model_path, codes_path, save_path, seed)
        ended = len(frames) <= max_audio_length_ms // FRAME_MS
        song["result"] |= {"frames": len(frames), "stop_reason": "eos" if ended else "max_length"}
        return song
