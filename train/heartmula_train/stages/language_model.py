"""Stage 4: the language model, from tags and lyrics to codes (codec.md A11, lm.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.music.lyrics import SYLLABLES, WIDE_LEXICON, WIDE_WORDS, WORDS
from heartmula_train.music.plan import BEAT_CODES, EXTRAS, GENRES, INSTRUMENTS, MODES, SECTIONS, SongPlan
from heartmula_train.music.render import render
from heartmula_train.music.vocabulary import vocabulary
from heartmula_train.stages.config import Config, GpuLanguageModel
from heartmula_train.stages.loop import Task
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.stages.songs import SongPool, held_out_plan, starting_plan, training_plan
from heartmula_train.text.byte_level import special_ids
from heartmula_train.text.prompt import Prompt, make_prompt
from heartmula_train.text.syllables import syllable_tokenizer
from heartmula_train.text.train_tokenizer import train_tokenizer


def make_tokenizer(config: Config) -> Tokenizer:
    """Learned from tags and lyrics of songs that are not trained on; for the GPU path one of a token a syllable."""
    if isinstance(config.language_model, GpuLanguageModel):
        names = [*BEAT_CODES, *MODES, *GENRES, *INSTRUMENTS, *EXTRAS, *SECTIONS]
        words = [word for word, vowels in WIDE_LEXICON.items() if len(vowels) == 1]
        return syllable_tokenizer(words, SYLLABLES, names)
    plans = [starting_plan(config, i) for i in range(config.language_model.tokenizer_songs)]
    return train_tokenizer([text for plan in plans for text in (plan.tags, plan.lyrics)], config.lm.text_vocab_size)


def make_vocabulary(config: Config) -> dict[str, Any]:
    """What vocabulary.json says of a model that this configuration trains."""
    settings = config.language_model
    if isinstance(settings, GpuLanguageModel):
        longest = max(settings.max_seconds, settings.longer_seconds if settings.longer > 0 else 0.0)
        return vocabulary(WIDE_WORDS, config.songs.min_seconds, longest)
    return vocabulary(WORDS, config.songs.min_seconds, settings.max_seconds)


@dataclass(frozen=True)
class Example:
    """A prompt and the codes [F, 8] that should follow it, the end frame included."""

    prompt: Prompt
    codes: Tensor


def heard_past(codes: Tensor, rng: np.random.Generator, noisy_songs: float, noise: float) -> Tensor:
    """What the model hears of its own song: in some songs, frames from elsewhere among its own.

    Else it would trust the past alone, where every tempo shows, and not the tags.
    """
    past = codes[:-1]
    if rng.random() >= noisy_songs:
        return past
    exchanged = rng.random(len(past)) < rng.uniform(0, noise)
    others = past[torch.from_numpy(rng.permutation(len(past))).to(past.device)]
    return torch.where(torch.from_numpy(exchanged).to(past.device)[:, None], others, past)


class LanguageModelTask(Task):
    """Cross-entropy of every code, given the prompt and all codes before it; the text is dropped for guidance."""

    def __init__(self, config: Config, quantizer: FeatureQuantizer, tokenizer: Tokenizer) -> None:
        self.config = config
        self.settings = config.language_model
        self._quantizer = quantizer.eval()
        self._tokenizer = tokenizer
        self._gen_config = special_ids(tokenizer, config.audio_eos_id)
        torch.manual_seed(config.seed)
        self.module = HeartMuLa(config.lm)
        longest = self.settings.max_seconds
        self._pool = SongPool(
            self.settings.pool,
            lambda index: self._example(training_plan(config, index, longest)),
            self.settings.fresh,
        )
        self._held_out = [
            self._example(held_out_plan(config, i, longest)) for i in range(self.settings.validation_songs)
        ]

    def _example(self, plan: SongPlan) -> Example:
        codes = self._quantizer.encode(render(plan))
        end = torch.full((1, CODEBOOKS), self.config.audio_eos_id, dtype=codes.dtype, device=codes.device)
        prompt = make_prompt(self._tokenizer, self._gen_config, plan.tags, plan.lyrics)
        return Example(prompt, torch.cat((codes, end)))

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """Backbone on all frames, depth decoder on some."""
        rng = np.random.default_rng((self.config.seed, 4, step))
        # Songs of similar length together: a third less padding.
        pool = sorted(self._pool.at(step), key=lambda example: len(example.prompt.text_ids) + len(example.codes))
        begin = self.settings.batch * int(rng.integers(max(1, len(pool) // self.settings.batch)))
        songs = pool[begin : begin + self.settings.batch]
        return self._losses(songs, rng, self.settings.drop_text, self.settings.depth_frames, self.settings.noisy_songs)

    def _losses(
        self,
        examples: list[Example],
        rng: np.random.Generator,
        drop_text: float,
        depth_frames: int,
        noisy_songs: float = 0.0,
    ) -> dict[str, Tensor]:
        model, device = self.module, self.module.audio_head.device
        rows, lengths = [], []
        for example in examples:
            text_ids = torch.tensor(example.prompt.text_ids, device=device)
            conditional = bool(rng.random() >= drop_text)
            prompt = model.embed_prompt(text_ids, example.prompt.reference_index, conditional)
            codes = example.codes[: self.settings.max_frames].to(device)
            past = heard_past(codes, rng, noisy_songs, self.settings.noise)
            rows.append(torch.cat((prompt, model.embed_frames(past))))
            lengths.append((len(text_ids), codes))
        hidden = model.backbone(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))  # [B, T, D]
        # The prompt's last position predicts the first frame.
        outputs = torch.cat([hidden[i, begin - 1 : begin - 1 + len(codes)] for i, (begin, codes) in enumerate(lengths)])
        targets = torch.cat([codes for _, codes in lengths])  # [N, 8]
        first = F.cross_entropy(model.first_logits(outputs).float(), targets[:, 0])
        chosen = torch.from_numpy(rng.permutation(len(targets))[:depth_frames]).to(device)
        logits = model.depth_logits(outputs[chosen], targets[chosen])  # [n, 7, V]
        nats = F.cross_entropy(logits.float().transpose(1, 2), targets[chosen, 1:], reduction="none").mean(0)  # [7]
        weights = self.settings.codebook_decay ** torch.arange(CODEBOOKS, device=device)
        loss = (weights * torch.cat((first[None], nats))).sum() / weights.sum()
        return {"loss": loss, "codebook0": first, "codebook1": nats[0], "codebook2": nats[1], "depth": nats.mean()}

    def validate(self) -> dict[str, float]:
        """Nats a code on held-out songs, with the text and without it."""
        rng = np.random.default_rng(0)
        figures: dict[str, float] = {}
        for suffix, drop_text in (("", 0.0), ("_without_text", 1.0)):
            losses = [self._losses([example], rng, drop_text, self.settings.depth_frames) for example in self._held_out]
            for name in ("codebook0", "codebook1", "codebook2", "depth"):
                figures[name + suffix] = float(torch.stack([loss[name] for loss in losses]).mean())
        return figures
