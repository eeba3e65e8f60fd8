"""Songs on the device, ready to be chosen by a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.stages.gpu.rows import LABELS, NONE, PAD, Row


class Rows(NamedTuple):
    """Rows of one length: tokens [n, T] int16, codes [n, T, 8] uint8, labels [n, T, 6] uint8."""

    tokens: Tensor
    codes: Tensor
    labels: Tensor

    def chosen(self, picks: Tensor | slice) -> Rows:
        """Some of them."""
        return Rows(*(table[picks] for table in self))


class SongStore:
    """A table for each length, to which rows are padded. None ever moves; in a full one, new rows replace old ones."""

    def __init__(self, lengths: Sequence[int], capacity: int, device: torch.device) -> None:
        self.lengths, self._capacity, self._device = tuple(lengths), capacity, device
        self._added = [0] * len(lengths)
        self.tables = [
            Rows(
                torch.full((capacity, length), PAD, dtype=torch.int16, device=device),
                torch.zeros((capacity, length, CODEBOOKS), dtype=torch.uint8, device=device),
                torch.full((capacity, length, len(LABELS)), NONE, dtype=torch.uint8, device=device),
            )
            for length in lengths
        ]

    @property
    def counts(self) -> list[int]:
        """Songs held, a length each."""
        return [min(added, self._capacity) for added in self._added]

    @property
    def added(self) -> int:
        """Songs ever added."""
        return sum(self._added)

    def add(self, rows: Sequence[Row]) -> None:
        """Appends; rows that are too long for every table are left out."""
        groups: dict[int, list[Row]] = {}
        for row in rows:
            index = next((i for i, length in enumerate(self.lengths) if len(row.tokens) <= length), None)
            if index is not None:
                groups.setdefault(index, []).append(row)
        for index, group in groups.items():
            self._append(index, group[-self._capacity :])

    def _append(self, index: int, group: list[Row]) -> None:
        where = (self._added[index] + np.arange(len(group))) % self._capacity
        for table, fill, name in zip(self.tables[index], (PAD, 0, NONE), Row.__dataclass_fields__, strict=True):
            arrays = [getattr(row, name) for row in group]
            padded = np.full((len(group), *table.shape[1:]), fill, arrays[0].dtype)
            for line, array in zip(padded, arrays, strict=True):
                line[: len(array)] = array
            table[sent(where, self._device)] = sent(padded, self._device)
        self._added[index] += len(group)

    def state_dict(self) -> dict[str, Any]:
        """What is held, on the CPU."""
        filled = zip(self.tables, self.counts, strict=True)
        tables = [[part[:count].cpu() for part in table] for table, count in filled]
        return {"lengths": list(self.lengths), "added": list(self._added), "tables": tables}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As it was; a store of other lengths or of less capacity is refused."""
        held = max((len(parts[0]) for parts in state["tables"]), default=0)
        if tuple(state["lengths"]) != self.lengths or held > self._capacity:
            raise ValueError("the run that is to go on had other lengths or songs_per_length")
        self._added = list(state["added"])
        for table, parts in zip(self.tables, state["tables"], strict=True):
            for part, stored in zip(table, parts, strict=True):
                part[: len(stored)] = stored.to(self._device)


def sent(array: np.ndarray, device: torch.device) -> Tensor:
    """On the device, without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
