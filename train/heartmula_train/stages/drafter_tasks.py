"""Tasks that train drafters on dumps of a finished language model; what they draft with of it stays as it is."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heartmula_train.drafters.coupling import (
    acceptance,
    at_tokens,
    candidates,
    coupled_match,
    divergence,
    drafted_log_probabilities,
    gumbel,
    noise_that_drew,
    target_log_probabilities,
)
from heartmula_train.drafters.dumps import Dumps, Frames
from heartmula_train.drafters.language_model import LanguageModelEnds
from heartmula_train.drafters.modules import FrameDrafter, MedusaHeads, MicroDepthDecoder
from heartmula_train.lm.config import CODEBOOKS, TransformerConfig
from heartmula_train.lm.transformer import KvCache
from heartmula_train.stages.config import Drafting, FrameDrafting, MedusaHeading
from heartmula_train.stages.loop import Task

_RATE_FRAMES = 256  # at a time: the coupled match of a frame is 8 K^2 numbers


class DrafterTask(Task):
    """Draws crops; compares drafted logits with what the language model wanted."""

    def __init__(self, settings: Drafting, dumps: Dumps, seed: int, stream: int) -> None:
        self._settings = settings
        self._dumps = dumps
        self._seed = (seed, stream)

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device

    def _crops(self, step: int, length: int) -> Frames:
        rng = np.random.default_rng((*self._seed, step))
        return self._dumps.crops(rng, self._settings.batch, length).to(self._device)

    def _loss(self, logits: Tensor, frames: Frames, first: int, progress: float) -> Tensor:
        """Logits [N, Q, V] of the codes from codebook `first` on -> KL or total variation, [N, Q]."""
        log_p, tokens, temperature = _target(frames, first, logits.shape[1])
        log_q = at_tokens(drafted_log_probabilities(logits, temperature), tokens)
        if progress >= 1.0 - self._settings.tv_part:
            return 1.0 - acceptance(log_p, log_q)
        return divergence(log_p, log_q)

    def _rates(self, logits: Tensor, frames: Frames, first: int) -> tuple[Tensor, Tensor]:
        """Expected acceptance and coupled match of drafts, [N, Q] each, on the CPU."""
        log_p, tokens, temperature = _target(frames, first, logits.shape[1])
        accepted, matched = [], []
        for begin in range(0, len(log_p), _RATE_FRAMES):
            some = slice(begin, begin + _RATE_FRAMES)
            q = drafted_log_probabilities(logits[some], temperature[some], self._dumps.first.topk)
            p, q = log_p[some], at_tokens(q, tokens[some])
            accepted.append(acceptance(p, q).cpu())
            matched.append(coupled_match(p, q).cpu())
        return torch.cat(accepted), torch.cat(matched)


def _target(frames: Frames, first: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """log p and tokens [N, Q, K], temperature [N, Q] of `count` codes."""
    codes = slice(first, first + count)
    temperature = frames.temperature[:, None].expand(-1, count)
    return target_log_probabilities(frames.logits[:, codes], temperature), frames.tokens[:, codes], temperature


class _Figures:
    """Means over frames, one figure a temperature, and one a codebook."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, float], list[Tensor]] = defaultdict(list)

    def add(self, name: str, temperature: float, rows: Tensor) -> None:
        """Rows [N] or [N, Q]."""
        self._rows[name, temperature].append(rows)

    def means(self) -> dict[str, float]:
        """All of them; with codebooks, those up to the last."""
        found = {}
        for (name, temperature), parts in self._rows.items():
            rows = torch.cat(parts)
            found[f"{name}_t{temperature:g}"] = float(rows.mean())
            if rows.dim() == 2:
                for number, mean in enumerate(rows.mean(0).tolist(), CODEBOOKS - rows.shape[1]):
                    found[f"{name}_t{temperature:g}_codebook{number}"] = mean
        return found


class MicroDepthTask(DrafterTask):
    """Codes 1 to 7 of a frame, from h of the frame and its codes before."""

    def __init__(
        self, settings: Drafting, sizes: TransformerConfig, ends: LanguageModelEnds, dumps: Dumps, seed: int
    ) -> None:
        super().__init__(settings, dumps, seed, 1)
        torch.manual_seed(seed)
        self.module = MicroDepthDecoder(dumps.first.embed_dim, ends.config.audio_vocab_size, sizes)

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """KL(p || q), then 1 - sum min(p, q)."""
        frames = self._crops(step, self._settings.crop_frames).flat()
        loss = self._loss(self.module(frames.hidden, frames.codes), frames, 1, progress).mean()
        return {"loss": loss}

    def validate(self) -> dict[str, float]:
        """acceptance_tX, coupled_tX, and of each codebook."""
        settings, figures = self._settings, _Figures()
        for temperature, crops in self._dumps.held_out_crops(
            settings.batch, settings.crop_frames, settings.crop_frames
        ):
            frames = crops.to(self._device).flat()
            accepted, matched = self._rates(self.module(frames.hidden, frames.codes), frames, 1)
            figures.add("acceptance", temperature, accepted)
            figures.add("coupled", temperature, matched)
        return figures.means()


class EstimateTask(DrafterTask):
    """A drafter of h, whose codes are then drafted by the language model's first head and the micro depth decoder."""

    def __init__(
        self,
        settings: FrameDrafting | MedusaHeading,
        module: nn.Module,
        ends: LanguageModelEnds,
        depth: MicroDepthDecoder,
        dumps: Dumps,
        seed: int,
        stream: int,
    ) -> None:
        super().__init__(settings, dumps, seed, stream)
        self.module = module
        self._ends = ends.eval().requires_grad_(False)
        self._depth = depth.eval().requires_grad_(False)

    def _first_logits(self, estimates: Tensor) -> Tensor:
        return self._ends.first_logits(estimates, self._dumps.first.cfg_scale)

    def _frame_logits(self, estimates: Tensor, frames: Frames) -> Tensor:
        """h [N, 2, D] -> logits of all codes, each given the true ones before it, [N, 8, V]."""
        first = self._first_logits(estimates).float()
        return torch.cat((first[:, None], self._depth(estimates, frames.codes).float()), 1)

    def _estimate_losses(self, estimates: Tensor, wanted: Frames, progress: float) -> dict[str, Tensor]:
        """Of estimates [B, T, 2, D] of the frames' h."""
        frames, own = wanted.flat(), estimates[wanted.valid]
        drafted = self._loss(self._frame_logits(own, frames), frames, 0, progress).mean()
        regression = F.smooth_l1_loss(own, frames.hidden)
        return {"loss": drafted + self._settings.regression * regression, "drafted": drafted, "regression": regression}

    def _add_figures(
        self, figures: _Figures, offset: int, temperature: float, estimates: Tensor, wanted: Frames
    ) -> None:
        """Coupled match of each code given those before it right, and of whole frames."""
        frames, own = wanted.flat(), estimates[wanted.valid]
        if len(own) == 0:
            return
        _, matched = self._rates(self._frame_logits(own, frames), frames, 0)
        figures.add(f"coupled{offset}", temperature, matched)
        figures.add(f"frame{offset}", temperature, matched.prod(-1))


def _mean_of(losses: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name] for one in losses]).mean() for name in losses[0]}


class FrameDrafterTask(EstimateTask):
    """h of the next frame from h of this one and the frame; of further frames from its own estimates."""

    def __init__(
        self,
        settings: FrameDrafting,
        sizes: TransformerConfig,
        ends: LanguageModelEnds,
        depth: MicroDepthDecoder,
        dumps: Dumps,
        seed: int,
    ) -> None:
        if settings.crop_frames > sizes.max_seq_len or not 1 <= settings.ahead < settings.crop_frames:
            raise ValueError("[frame_drafter] crop_frames must be at most [frame] max_seq_len, and more than ahead")
        torch.manual_seed(seed)
        super().__init__(settings, FrameDrafter(dumps.first.embed_dim, sizes), ends, depth, dumps, seed, 2)
        self._sizes = sizes

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """The next frame everywhere; then, from some places on, the frames after it."""
        frames = self._crops(step, self._settings.crop_frames + 1)
        rng = np.random.default_rng((*self._seed, step, 1))
        estimates, cache = self._drafted(frames)
        losses = self._estimate_losses(estimates, frames.part(1, None), progress)
        ahead: list[dict[str, Tensor]] = []
        for _ in range(self._settings.cuts if self._settings.ahead > 1 else 0):
            begin = int(rng.integers(1, self._settings.crop_frames - self._settings.ahead + 2))
            for own, wanted in self._further(frames, estimates, cache, begin):
                if wanted.valid.any():
                    ahead.append(self._estimate_losses(own, wanted, progress))
        if not ahead:
            return losses
        further = _mean_of(ahead)
        return {**losses, "loss": losses["loss"] + further["loss"], "further": further["drafted"]}

    def _drafted(self, frames: Frames) -> tuple[Tensor, KvCache]:
        """Passages of n + 1 frames -> estimates of the last n of them [B, n, 2, D], and what the drafter holds."""
        cache = KvCache(self._sizes.num_layers)
        return self.module(frames.hidden[:, :-1], self._ends.embed_frames(frames.codes[:, :-1]), cache), cache

    def _further(self, frames: Frames, estimates: Tensor, cache: KvCache, begin: int) -> list[tuple[Tensor, Frames]]:
        """Estimates [B, 1, 2, D] of frames begin + 1, ... whose h before are true up to frame begin - 1."""
        cut, own, found = cache.first(begin), estimates[:, begin - 1 : begin], []
        for place in range(begin, begin + self._settings.ahead - 1):
            own = self.module(own, self._ends.embed_frames(frames.codes[:, place : place + 1]), cut)
            found.append((own, frames.part(place + 1, place + 2)))
        return found

    def validate(self) -> dict[str, float]:
        """coupled1_tX, frame1_tX of the next frame, coupled2_tX, ... of those after it, best16_tX by candidates."""
        settings, figures = self._settings, _Figures()
        length = settings.crop_frames
        for temperature, crops in self._dumps.held_out_crops(settings.batch, length + 1, length):
            frames = crops.to(self._device)
            estimates, cache = self._drafted(frames)
            self._add_figures(figures, 1, temperature, estimates, frames.part(1, None))
            last = length - settings.ahead + 1
            for begin in range(1, last + 1, max(1, last // 8)) if settings.ahead > 1 else ():
                for offset, (own, wanted) in enumerate(self._further(frames, estimates, cache, begin), 2):
                    self._add_figures(figures, offset, temperature, own, wanted)
        return {**figures.means(), **self._best_of_candidates()}

    def _best_of_candidates(self) -> dict[str, float]:
        """How often one of the candidates is the frame, with the noise that drew the frame."""
        settings, dumps, figures = self._settings, self._dumps, _Figures()
        generator = torch.Generator().manual_seed(self._seed[0])
        heats = len({file.temperature for file in dumps.held_out})
        frames_of_heat = sum(file.frames for file in dumps.held_out) // heats
        stride = settings.crop_frames * max(1, frames_of_heat // settings.candidate_frames)
        for temperature, crops in dumps.held_out_crops(4, settings.crop_frames + 1, stride):
            crops = crops.to(self._device)
            estimates, _ = self._drafted(crops)
            wanted = crops.part(1, None)
            frames, own = wanted.flat(), estimates[wanted.valid]
            log_p, tokens, heat = _target(frames, 0, CODEBOOKS)
            noise = gumbel((len(own), CODEBOOKS, self._ends.config.audio_vocab_size), generator).to(self._device)
            for codebook in range(CODEBOOKS):
                noise[:, codebook] = noise_that_drew(
                    log_p[:, codebook], tokens[:, codebook], frames.codes[:, codebook], noise[:, codebook]
                )
            for count in sorted({1, settings.candidates}):
                codes, sums = candidates(
                    self._ends, self._depth, own, noise, heat[:, 0], dumps.first.cfg_scale, dumps.first.topk, count
                )
                right = (codes == frames.codes[:, None]).all(-1) & sums.isfinite()
                figures.add(f"best{count}", temperature, right.any(-1).float().cpu())
        return figures.means()


class MedusaTask(EstimateTask):
    """h of the frames at offsets 1 to n from h of this one.

    Medusa heads learn h and all codes' distributions; multi-token heads (2410.13839) only the true codes 0 (`plain`).
    """

    def __init__(
        self,
        settings: MedusaHeading,
        ends: LanguageModelEnds,
        depth: MicroDepthDecoder,
        dumps: Dumps,
        seed: int,
        plain: bool,
    ) -> None:
        super().__init__(settings, MedusaHeads(dumps.first.embed_dim, settings.heads), ends, depth, dumps, seed, 3)
        self._plain = plain

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """The mean over the heads."""
        frames = self._crops(step, self._settings.crop_frames + self._settings.heads)
        return _mean_of([self._head_losses(*pair, progress) for pair in self._drafted(frames)])

    def _drafted(self, frames: Frames) -> list[tuple[Tensor, Frames]]:
        """Estimates and what they are of, for each head: [B, T - 1 - I, 2, D]."""
        length = frames.hidden.shape[1]
        return [
            (self.module.estimate(frames.hidden[:, : length - 1 - head], head), frames.part(1 + head, None))
            for head in range(self._settings.heads)
        ]

    def _head_losses(self, estimates: Tensor, wanted: Frames, progress: float) -> dict[str, Tensor]:
        if not self._plain:
            return self._estimate_losses(estimates, wanted, progress)
        frames, own = wanted.flat(), estimates[wanted.valid]
        scaled = self._first_logits(own).float() / frames.temperature[:, None]
        return {"loss": F.cross_entropy(scaled, frames.codes[:, 0])}

    def validate(self) -> dict[str, float]:
        """coupled1_tX, frame1_tX of the first head, and so on."""
        settings, figures = self._settings, _Figures()
        length = settings.crop_frames
        for temperature, crops in self._dumps.held_out_crops(settings.batch, length + settings.heads, length):
            for offset, (own, wanted) in enumerate(self._drafted(crops.to(self._device)), 1):
                self._add_figures(figures, offset, temperature, own, wanted)
        return figures.means()
