"""A step of the training: songs are chosen, losses, gradients, update, average. On a GPU, one launch of a graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.stages.config import Config
from heartmula_train.stages.gpu.losses import CountingModel, Figures, RowLosses
from heartmula_train.stages.gpu.muon import Muon
from heartmula_train.stages.gpu.store import SongStore, sent

Work = Callable[[], None]
Capture = Callable[[list[Work]], list[Work]]

_BETAS = (0.9, 0.98)
_UNUSED = "lm.muq_linear.weight"  # songs have no reference: only its bias is heard


def run_once(works: list[Work]) -> list[Work]:
    """Each work as it is, after a first run, by which optimizers make their state."""
    for work in works:
        work()
    return works


def as_graphs(works: list[Work]) -> list[Work]:
    """Each work as one launch; the largest comes first, for the others use its memory."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            run_once(works)
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graphs: list[torch.cuda.CUDAGraph] = []
    for work in works:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=graphs[0].pool() if graphs else None):
            work()
        graphs.append(graph)
    return [graph.replay for graph in graphs]


class StepTrainer:
    """Weights (float32, what runs may be bf16), their average, optimizers, and a step for each length of songs."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self._settings, self._device = config.language_model, device
        self._dtype = torch.bfloat16 if self._settings.bf16 else torch.float32
        torch.manual_seed(config.seed)
        self.master = CountingModel(config.lm).to(device)
        self._named = {name: p for name, p in self.master.named_parameters() if name != _UNUSED}
        self._masters = list(self._named.values())
        self._losses = RowLosses(config, max(self._settings.lengths), device, self._dtype)
        falling = self._settings.codebook_decay ** torch.arange(CODEBOOKS, device=device)
        self._codebook_weights = falling / falling.sum()
        self._counting = torch.tensor(self._settings.counting, device=device)
        self._sums = torch.zeros(1 + Figures.WIDTH, device=device)
        self._summed = 0
        self._make_optimizers()
        self.set_weights(self.master.lm.state_dict())

    def _make_optimizers(self) -> None:
        """Muon for the matrices of both transformers and of the projection between them, AdamW for the rest."""
        settings, muon, adam = self._settings, [], {True: [], False: []}
        for name, p in self._named.items():
            if settings.muon_rate > 0 and p.ndim == 2 and (".layers." in name or ".projection." in name):
                muon.append(p)
            else:
                adam[p.ndim >= 2].append(p)
        self._muon_rate, self._rate = (torch.tensor(0.0, device=self._device) for _ in range(2))
        self._adam = torch.optim.AdamW(
            [
                {"params": adam[True], "weight_decay": settings.weight_decay},
                {"params": adam[False], "weight_decay": 0.0},
            ],
            lr=self._rate,
            betas=_BETAS,
            fused=True,
            capturable=self._device.type == "cuda",
        )
        self._optimizers = [self._adam, *([Muon(muon, self._muon_rate, settings.weight_decay)] if muon else [])]
        for p in self._masters:
            p.grad = torch.zeros_like(p)

    def set_weights(self, lm: dict[str, Tensor]) -> None:
        """Begins with these weights of the language model; before `prepare`."""
        self.master.lm.load_state_dict(lm)
        self._working = copy.deepcopy(self.master).to(self._dtype)
        self._workers = [p for name, p in self._working.named_parameters() if name != _UNUSED]
        self._judged = copy.deepcopy(self._working)
        self.average = [p.detach().clone() for p in self._masters]

    def prepare(self, store: SongStore, indices: list[int], capture: Capture | None = None) -> None:
        """A step for each of these lengths of the store; `capture`: as_graphs on a GPU, else run_once."""
        capture = capture or (as_graphs if self._device.type == "cuda" else run_once)
        indices = sorted(indices, key=lambda index: -self.rows(store, index) * store.lengths[index])
        self._picks = {
            index: torch.zeros(self.rows(store, index), dtype=torch.long, device=self._device) for index in indices
        }
        self._set_rates(0.0, 0.0)  # capturing runs steps, which must not change anything
        works = capture([lambda index=index: self._whole_step(store, index) for index in indices])
        self._steps = dict(zip(indices, works, strict=True))
        for value in self._optimizer_state():
            value.zero_()
        self._sums.zero_()

    def rows(self, store: SongStore, index: int) -> int:
        """Songs of a length that make a step's positions."""
        return max(2, self._settings.tokens // store.lengths[index])

    def step(self, index: int, picks: np.ndarray, rate: float, counting: float) -> None:
        """One update by the songs `picks` of a length; rates are scaled by `rate`."""
        self._set_rates(self._settings.learning_rate * rate, self._settings.muon_rate * rate)
        self._counting.fill_(counting)
        self._picks[index].copy_(sent(picks.astype(np.int64), self._device), non_blocking=True)
        self._steps[index]()
        self._summed += 1

    def _set_rates(self, adam: float, muon: float) -> None:
        self._rate.fill_(adam)
        self._muon_rate.fill_(muon)

    def _whole_step(self, store: SongStore, index: int) -> None:
        figures = self._losses(self._working, store.tables[index].chosen(self._picks[index]), training=True)
        loss = (self._codebook_weights * figures.codebooks).sum() + self._counting * figures.labels.sum()
        for p in self._workers:
            p.grad = None
        loss.backward()
        self._update()
        self._sums += torch.cat((loss.detach()[None], figures.values.detach()))

    @torch.no_grad()
    def _update(self) -> None:
        gradients = [p.grad for p in self._masters]
        torch._foreach_copy_(gradients, [p.grad for p in self._workers])
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, torch.clamp(self._settings.clip / (norm + 1e-6), max=1.0))
        for optimizer in self._optimizers:
            optimizer.step()
        torch._foreach_lerp_(self.average, self._masters, 1.0 - self._settings.average)
        torch._foreach_copy_(self._workers, self._masters)

    def figures(self) -> dict[str, float]:
        """Means of the steps since the last call. Waits for the device."""
        means = self._sums / max(1, self._summed)
        self._sums.zero_()
        self._summed = 0
        return {"loss": float(means[0]), **Figures(means[1:]).named()}

    @torch.no_grad()
    def validate(self, store: SongStore, most: int = 64) -> dict[str, float]:
        """Of the averaged weights, means over at most so many songs of each length."""
        torch._foreach_copy_([p for name, p in self._judged.named_parameters() if name != _UNUSED], self.average)
        total, count = torch.zeros(Figures.WIDTH, device=self._device), 0
        for table, held in zip(store.tables, store.counts, strict=True):
            songs = min(most, held)
            if songs >= 2:
                total += songs * self._losses(self._judged, table.chosen(slice(songs)), training=False).values
                count += songs
        return Figures(total / max(1, count)).named()

    def averaged(self, config: Config) -> HeartMuLa:
        """What is exported, float32 on the CPU."""
        state = {name: value.cpu() for name, value in self.master.lm.state_dict().items()}
        for name, value in zip(self._named, self.average, strict=True):
            if name.startswith("lm."):
                state[name.removeprefix("lm.")] = value.cpu()
        lm = HeartMuLa(config.lm)
        lm.load_state_dict(state)
        return lm

    def _optimizer_state(self) -> Iterator[Tensor]:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    yield from optimizer.state[p].values()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, but for the songs."""
        parts = {"masters": self._masters, "average": self.average, "optimizers": self._optimizer_state()}
        return {name: [value.detach().cpu().clone() for value in values] for name, values in parts.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """After `prepare`: values change in place, where graphs read them."""
        for name, values in (
            ("masters", self._masters),
            ("average", self.average),
            ("optimizers", list(self._optimizer_state())),
        ):
            for value, stored in zip(values, state[name], strict=True):
                value.copy_(stored)
        torch._foreach_copy_(self._workers, self._masters)
