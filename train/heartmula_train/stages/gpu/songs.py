"""Rows of songs never heard before: made by processes beside the training, or between its steps."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from heartmula_train.music.lyrics import WIDE_WORDS
from heartmula_train.music.plan import SongPlan
from heartmula_train.music.render import render
from heartmula_train.stages.config import Config
from heartmula_train.stages.gpu.rows import Row, make_row
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.stages.songs import held_out_plan, training_plan
from heartmula_train.text.byte_level import special_ids

_WAITING = 1024  # songs in the queue before processes wait
_PATIENCE_S = 5.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class NumberedRow:
    """A row and the number of its song; held-out songs have numbers of their own."""

    number: int
    row: Row
    is_held_out: bool = False


class SongMaker:
    """Draws, renders and encodes songs."""

    def __init__(self, config: Config, quantizer: FeatureQuantizer, tokenizer: Tokenizer) -> None:
        self._config, self._settings = config, config.language_model
        self._quantizer, self._tokenizer = quantizer, tokenizer
        self._gen_config = special_ids(tokenizer, config.audio_eos_id)

    def plan(self, number: int, is_held_out: bool) -> SongPlan:
        """Some songs are longer; short words that everybody writes occur."""
        is_longer = np.random.default_rng((self._config.seed, number, 7)).random() < self._settings.longer
        longest = self._settings.longer_seconds if is_longer else self._settings.max_seconds
        return (held_out_plan if is_held_out else training_plan)(self._config, number, longest, WIDE_WORDS)

    def make(self, number: int, is_held_out: bool = False) -> NumberedRow:
        """Song `number` of its kind."""
        plan = self.plan(number, is_held_out)
        codes = self._quantizer.encode(render(plan)).numpy()
        return NumberedRow(number, make_row(plan, codes, self._tokenizer, self._gen_config), is_held_out)


class SongsBetween:
    """Made when they are asked for, `fresh` at a time: the same in every run."""

    def __init__(self, maker: SongMaker, first: int, fresh: int) -> None:
        self._maker, self._next, self._fresh = maker, first, fresh

    def held_out(self, count: int) -> list[NumberedRow]:
        """The first `count` of them."""
        return [self._maker.make(number, is_held_out=True) for number in range(count)]

    def take(self) -> list[NumberedRow]:
        """The next ones."""
        self._next += self._fresh
        return [self._maker.make(number) for number in range(self._next - self._fresh, self._next)]

    def close(self) -> None:
        """Nothing is left behind."""


class SongsBeside:
    """Made by processes without end; which are there at a step depends on the machine."""

    def __init__(
        self,
        config: Config,
        quantizer: FeatureQuantizer,
        tokenizer: Tokenizer,
        first: int,
        held_out: int,
    ) -> None:
        workers = config.language_model.workers
        context = multiprocessing.get_context("spawn")  # a forked process would share the GPU's driver
        self._queue = context.Queue(maxsize=_WAITING)
        self._early: list[NumberedRow] = []
        state = {name: tensor.cpu().numpy() for name, tensor in quantizer.state_dict().items()}
        with _one_thread():
            self._processes = [
                context.Process(
                    target=_make_songs,
                    args=(self._queue, config, state, tokenizer.to_str(), range(i, held_out, workers), first + i),
                    daemon=True,
                )
                for i in range(workers)
            ]
            for process in self._processes:
                process.start()

    def held_out(self, count: int) -> list[NumberedRow]:
        """The first `count` of them, in order."""
        found: list[NumberedRow] = []
        while len(found) < count:
            row = self._next()
            (found if row.is_held_out else self._early).append(row)
        return sorted(found, key=lambda row: row.number)

    def take(self) -> list[NumberedRow]:
        """Those that are ready."""
        rows, self._early = self._early, []
        while not self._queue.empty():
            rows.append(self._next())
        return rows

    def _next(self) -> NumberedRow:
        while True:
            try:
                return self._queue.get(timeout=_PATIENCE_S)
            except queue.Empty:
                if not all(process.is_alive() for process in self._processes):
                    raise ValueError("a process that makes songs has ended; its message is above") from None

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.kill()
            process.join()
        self._queue.cancel_join_thread()


def _make_songs(
    channel: multiprocessing.Queue,
    config: Config,
    quantizer_state: dict[str, np.ndarray],
    tokenizer: str,
    held_out: range,
    first: int,
) -> None:
    """A process's life: its held-out songs, then every so-and-so-many-th song, until the training is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training hears it and ends its processes
    step = config.language_model.workers
    torch.set_num_threads(1)
    quantizer = FeatureQuantizer(config.codec)
    quantizer.load_state_dict({name: torch.from_numpy(array) for name, array in quantizer_state.items()})
    maker = SongMaker(config, quantizer.eval(), Tokenizer.from_str(tokenizer))
    training = multiprocessing.parent_process()
    kinds = ((held_out, True), (itertools.count(first, step), False))
    for number, is_held_out in ((number, kind) for numbers, kind in kinds for number in numbers):
        song = maker.make(number, is_held_out)
        while training.is_alive():
            try:
                channel.put(song, timeout=_PATIENCE_S)
                break
            except queue.Full:
                continue
        else:
            channel.cancel_join_thread()  # nobody reads what is left
            return


@contextmanager
def _one_thread() -> Iterator[None]:
    """For processes that are started: their libraries use one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
