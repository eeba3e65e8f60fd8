"""Songs to ask for: none that was trained on, in equal numbers of each tempo, mood, and with and without drums."""

from __future__ import annotations

from functools import lru_cache
from itertools import count, product

from heartmula_train.music.plan import BEAT_CODES, MIN_SECONDS, MODES, SongPlan, draw_plan

EVALUATION_SEED = 3000  # trainings have small seeds, the analyzer 1000 and 2000
MAX_SECONDS = 24.0  # the longest songs that the language model of configs/demo.toml learns from

# Every fifth of the twelve combinations, so that the first few songs differ in everything.
_COMBINATIONS = list(product(BEAT_CODES, MODES, (False, True)))
_CELLS = [_COMBINATIONS[5 * i % len(_COMBINATIONS)] for i in range(len(_COMBINATIONS))]


@lru_cache(maxsize=4096)
def evaluation_plan(number: int, max_seconds: float = MAX_SECONDS, seed: int = EVALUATION_SEED) -> SongPlan:
    """Song `number`: of its combination the (number // 12)-th of the collection `seed`."""
    wanted, before = _CELLS[number % len(_CELLS)], number // len(_CELLS)
    for index in count():
        plan = draw_plan(seed, index, MIN_SECONDS, max_seconds)
        if (plan.tempo, plan.mood, plan.drums) == wanted:
            if before == 0:
                return plan
            before -= 1
    raise AssertionError("every combination occurs")
