"""The loop of the language model's training on a GPU: songs arrive, steps are launched, figures are written.

It runs on a CPU as well, without graphs and many times slower: for tests.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from heartmula_train.stages.config import Config, GpuLanguageModel
from heartmula_train.stages.gpu.songs import NumberedRow, SongMaker, SongsBeside, SongsBetween
from heartmula_train.stages.gpu.step import StepTrainer
from heartmula_train.stages.gpu.store import SongStore
from heartmula_train.stages.loop import FIGURES, FINAL, LAST, finish, record, save_atomically
from heartmula_train.stages.rvq import FeatureQuantizer

_LOWEST_RATE = 0.02  # of the whole, at the end
_COUNTING_FALLS = (0.7, 0.95)  # parts of the training between which the counting heads lose four fifths of their weight
_LEAST_SONGS = 8  # of a length, to be trained on
_NAPS_S = 0.05


def rate(settings: GpuLanguageModel, step: int, progress: float) -> float:
    """Part of the learning rates: warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    return warm * (_LOWEST_RATE + (1 - _LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def counting_weight(settings: GpuLanguageModel, progress: float) -> float:
    """Of the counting heads: constant, then falling to a fifth."""
    begin, end = _COUNTING_FALLS
    fallen = min(1.0, max(0.0, (progress - begin) / (end - begin)))
    return settings.counting * (1 - 0.8 * fallen)


class GpuTraining:
    """What a run holds, and how it is kept and taken up again."""

    def __init__(
        self, config: Config, quantizer: FeatureQuantizer, tokenizer: Tokenizer, folder: Path, device: torch.device
    ) -> None:
        self.config, self.settings, self.folder = config, config.language_model, folder
        self.step, self.seconds, self._next_song = 0, 0.0, 0
        self._stored: dict[str, Any] | None = None
        if (folder / LAST).exists():
            self._stored = torch.load(folder / LAST, map_location="cpu", weights_only=True)
            self.step, self.seconds = self._stored["step"], self._stored["seconds"]
            self._next_song = self._stored["next_song"]
            print(f"{folder.name}: goes on from step {self.step}")
        settings = self.settings
        if settings.workers:
            held_out = settings.validation_songs
            self._songs = SongsBeside(config, quantizer, tokenizer, self._next_song, held_out)
        else:
            self._songs = SongsBetween(SongMaker(config, quantizer, tokenizer), self._next_song, settings.fresh)
        self.trainer = StepTrainer(config, device)
        self.store = SongStore(settings.lengths, settings.songs_per_length, device)
        self.held_out = SongStore(settings.lengths, settings.validation_songs, device)

    def begin(self, start: dict[str, Tensor] | None) -> None:
        """Waits for the first songs and makes the steps; `start`: weights of the language model to begin with."""
        if start is not None:
            self.trainer.set_weights(start)
        self.held_out.add([song.row for song in self._songs.held_out(self.settings.validation_songs)])
        if self._stored:
            self.store.load_state_dict(self._stored["songs"])
        while self.store.added < self.settings.begin_with:
            if not self.take_songs():
                time.sleep(_NAPS_S)
        # A length that too few songs had by now is left out of the whole run; a run that goes on has the same ones.
        used = [i for i, count in enumerate(self.store.counts) if count >= _LEAST_SONGS]
        self._used = self._stored["used"] if self._stored else used
        if not self._used:
            raise ValueError(f"begin_with = {self.settings.begin_with} is too few: no length has {_LEAST_SONGS} songs")
        self.trainer.prepare(self.store, self._used)
        if self._stored:
            self.trainer.load_state_dict(self._stored["trainer"])
        self._stored = None

    def take_songs(self) -> list[NumberedRow]:
        """Those that are ready, into the store."""
        songs = self._songs.take()
        self.store.add([song.row for song in songs])
        self._next_song = max([self._next_song, *(song.number + 1 for song in songs)])
        return songs

    @property
    def progress(self) -> float:
        """Part of the training that is done."""
        return max(self.step / self.settings.steps, self.seconds / (60 * self.settings.minutes))

    def one_step(self) -> None:
        """Of one length, in proportion to the songs that have it; what it draws follows from its number."""
        rng = np.random.default_rng((self.config.seed, 5, self.step))
        counts = self.store.counts
        weights = np.array([counts[i] / self.trainer.rows(self.store, i) for i in self._used])
        index = self._used[int(rng.choice(len(self._used), p=weights / weights.sum()))]
        picks = rng.integers(0, counts[index], self.trainer.rows(self.store, index))
        torch.manual_seed((self.config.seed << 32) + self.step)
        progress = self.progress
        scale = rate(self.settings, self.step, progress)
        self.trainer.step(index, picks, scale, counting_weight(self.settings, progress))
        self.step += 1

    def save(self) -> None:
        """All that the run goes on from, its songs included."""
        state = {"trainer": self.trainer.state_dict(), "songs": self.store.state_dict(), "used": self._used}
        counters = {"step": self.step, "seconds": self.seconds, "next_song": self._next_song}
        save_atomically({**state, **counters}, self.folder / LAST)

    def close(self) -> None:
        """Ends what runs beside."""
        self._songs.close()


def train_on_gpu(
    config: Config,
    quantizer: FeatureQuantizer,
    tokenizer: Tokenizer,
    folder: Path,
    device: torch.device,
    start: dict[str, Tensor] | None = None,
) -> dict[str, float]:
    """As loop.train: trains, or goes on from folder/last.pt; writes final.pt and figures.json.

    Songs that processes make are other ones in each run: only without workers does a run end at the same weights again.
    """
    if (folder / FINAL).exists():
        return json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    settings = config.language_model
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cuda.enable_cudnn_sdp(False)  # as in the run that these settings are from
    run = GpuTraining(config, quantizer, tokenizer, folder, device)
    saved = time.monotonic()
    try:
        run.begin(start)
        with SummaryWriter(str(folder / "logs"), purge_step=run.step) as writer:
            begin = time.monotonic() - run.seconds
            while run.progress < 1.0:
                run.one_step()
                run.take_songs()
                if run.step % settings.log_every == 0:
                    _log(run, writer)
                run.seconds = time.monotonic() - begin
                if run.step % settings.validate_every == 0:
                    record(run.trainer.validate(run.held_out), writer, folder, run.step, run.seconds)
                if time.monotonic() - saved > settings.save_every_s:
                    run.save()
                    saved = time.monotonic()
            figures = record(run.trainer.validate(run.held_out), writer, folder, run.step, run.seconds)
    finally:
        run.close()
    return finish(folder, {**figures, "songs": run.store.added}, run.trainer.averaged(config).state_dict())


def _log(run: GpuTraining, writer: SummaryWriter) -> None:
    figures = run.trainer.figures()
    if not math.isfinite(figures["loss"]):
        raise ValueError(f"step {run.step}: the loss is not a number; lower muon_rate or learning_rate")
    for name, value in {
        **figures,
        "songs": run.store.added,
        "rate": rate(run.settings, run.step, run.progress),
    }.items():
        writer.add_scalar(f"train/{name}", value, run.step)
