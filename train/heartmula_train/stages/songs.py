"""Songs while training: a pool that is renewed at every step, and held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from heartmula_train.music.lyrics import WORDS
from heartmula_train.music.plan import SongPlan, draw_plan
from heartmula_train.music.render import render
from heartmula_train.stages.config import Music

# Kinds of songs never share a number.
_HELD_OUT = 1 << 40
_STARTING = 1 << 41

Item = TypeVar("Item")


def training_plan(
    config: Music, index: int, max_seconds: float | None = None, words: Sequence[str] = WORDS
) -> SongPlan:
    """Song `index` of the training."""
    return draw_plan(config.seed, index, config.songs.min_seconds, max_seconds or config.songs.max_seconds, words)


def held_out_plan(
    config: Music, index: int, max_seconds: float | None = None, words: Sequence[str] = WORDS
) -> SongPlan:
    """A song that is only validated on."""
    return training_plan(config, _HELD_OUT + index, max_seconds, words)


def starting_plan(config: Music, index: int) -> SongPlan:
    """A song that statistics and tokenizer start from."""
    return training_plan(config, _STARTING + index)


def render_training(config: Music, index: int) -> np.ndarray:
    """Samples of a training song."""
    return render(training_plan(config, index))


class SongPool(Generic[Item]):
    """`size` songs at a time. At each step the `fresh` oldest are replaced by songs never heard before."""

    def __init__(self, size: int, make: Callable[[int], Item], fresh: int = 1) -> None:
        self._size = size
        self._fresh = fresh
        self._make = make
        self._items: dict[int, Item] = {}

    def at(self, step: int) -> list[Item]:
        """The pool of a step: `size` songs from number `step * fresh` on."""
        wanted = range(step * self._fresh, step * self._fresh + self._size)
        self._items = {index: self._items[index] if index in self._items else self._make(index) for index in wanted}
        return list(self._items.values())
