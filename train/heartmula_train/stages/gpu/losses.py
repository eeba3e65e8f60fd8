"""The language model's losses over padded rows: no shape depends on what is in them, so that a graph can hold them.

Embeddings are products with one-hot rows: their gradients are products too, where a gather's would be a scatter.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heartmula_train.lm.config import CODEBOOKS, LmConfig
from heartmula_train.lm.fused import Rope, fused_block, fused_norm, wide_rope
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.stages.config import Config
from heartmula_train.stages.gpu.rows import FRAME, LABELS, NONE, PAD, REFERENCE
from heartmula_train.stages.gpu.store import Rows

_PACKED = 16  # frames that share a row of the depth decoder's attention
_EARLY = ("beat", "phase")  # heard after a third of the layers, the other labels after two thirds
_NOTHING = -9  # a token or code that no embedding has
_IGNORED = -100


class CountingModel(nn.Module):
    """HeartMuLa, and heads on two of its inner layers, which are thrown away after the training."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.lm = HeartMuLa(config)
        self.heads = nn.ModuleDict({name: nn.Linear(config.backbone.embed_dim, n) for name, n in LABELS.items()})


class Figures:
    """Means over codes and labels, one vector: nats a codebook [8], nats a label [6], part of labels right [6]."""

    WIDTH = CODEBOOKS + 2 * len(LABELS)

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.codebooks = values[:CODEBOOKS]
        self.labels, self.right = values[CODEBOOKS:].chunk(2)

    def named(self) -> dict[str, float]:
        """Names of the plain stage, and `right_` for each label. Waits for the device."""
        nats, right = self.codebooks.tolist(), self.right.tolist()
        named = {f"codebook{q}": nats[q] for q in range(3)}
        named["depth"] = sum(nats[1:]) / (CODEBOOKS - 1)
        return {**named, **{f"right_{name}": value for name, value in zip(LABELS, right, strict=True)}}


class RowLosses:
    """Cross-entropy of every code and label, given the prompt and all codes before it."""

    def __init__(self, config: Config, longest: int, device: torch.device, dtype: torch.dtype) -> None:
        lm = config.lm
        self._settings, self._lm, self._end = config.language_model, lm, config.audio_eos_id
        self._device, self._dtype = device, dtype
        self._words = torch.arange(lm.text_vocab_size, device=device)
        self._codes = torch.arange(lm.audio_vocab_size, device=device)
        self._rope = self._on_device(wide_rope(lm.backbone, longest))
        self._depth_rope = tuple(
            table.repeat(_PACKED, 1) for table in self._on_device(wide_rope(lm.decoder, CODEBOOKS))
        )
        position = torch.arange(_PACKED * CODEBOOKS, device=device)
        same_frame = position[:, None] // CODEBOOKS == position[None] // CODEBOOKS
        hidden = ~(same_frame & (position[:, None] >= position[None]))
        self._depth_mask = torch.zeros(hidden.shape, device=device, dtype=dtype).masked_fill_(hidden, float("-inf"))

    def _on_device(self, rope: Rope) -> Rope:
        return tuple(table.to(self._device, self._dtype) for table in rope)

    def __call__(self, model: CountingModel, rows: Rows, training: bool) -> Figures:
        """`training`: with texts dropped and noise in the past."""
        tokens, codes, labels = (part.long() for part in rows)
        lm, backbone = model.lm, model.lm.backbone
        keeps_text, past = self._disturbed(tokens, codes) if training else (None, codes)
        x = self._embedded(lm, tokens, past, keeps_text)
        rope = tuple(table[: tokens.shape[1]] for table in self._rope)
        inner = [x]
        for block in backbone.layers:
            inner.append(fused_block(inner[-1], block, rope))
        hidden = fused_norm(inner[-1], backbone.norm).flatten(0, 1)

        # Position t answers with the frame at t + 1, the last one with the end.
        following = F.pad(tokens[:, 1:], (0, 1), value=PAD)
        is_last = (tokens == FRAME) & (following == PAD)
        answers = ((following == FRAME) | is_last).flatten()
        targets = torch.where(is_last[..., None], self._end, F.pad(codes[:, 1:], (0, 0, 0, 1))).flatten(0, 1)
        first_targets = torch.where(answers, targets[:, 0], _IGNORED)
        first = F.cross_entropy(lm.first_logits(hidden).float(), first_targets)

        # The depth decoder on some of them; where there are fewer, others are taken and not counted.
        count = min(self._settings.depth_frames, len(hidden)) // _PACKED * _PACKED
        chosen = torch.topk(torch.rand(len(hidden), device=self._device) + answers, count, sorted=False).indices
        counted = answers[chosen].float()
        depth = self._depth(lm, hidden[chosen], targets[chosen])
        depth = (depth * counted[:, None]).sum(0) / counted.sum()

        layers = len(backbone.layers)
        early, late = (inner[max(1, part * layers // 3)] for part in (1, 2))
        return Figures(torch.cat((first[None], depth, *self._counting(model, early, late, labels))))

    def _disturbed(self, tokens: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a row keeps its text, bool [B, 1]; and its past, in some rows with frames from elsewhere in it."""
        settings, (batch, length) = self._settings, tokens.shape

        def drawn(*shape: int) -> Tensor:
            return torch.rand(shape, device=self._device)

        frames = (tokens == FRAME).sum(1, keepdim=True)
        begin = ((tokens >= 0) | (tokens == REFERENCE)).sum(1, keepdim=True)
        keeps_text = drawn(batch, 1) >= settings.drop_text
        noise = drawn(batch, 1) * settings.noise * (drawn(batch, 1) < settings.noisy_songs)
        other = begin + torch.minimum((drawn(batch, length) * frames).long(), frames - 1)
        others = torch.gather(codes, 1, other[..., None].expand_as(codes))
        return keeps_text, torch.where((drawn(batch, length) < noise)[..., None], others, codes)

    def _embedded(self, lm: HeartMuLa, tokens: Tensor, past: Tensor, keeps_text: Tensor | None) -> Tensor:
        """[B, T, D]: words, the reference's bias, frames; where the text is dropped, the unconditional embedding."""
        is_frame, is_reference = tokens == FRAME, tokens == REFERENCE
        is_dropped = torch.zeros_like(is_frame) if keeps_text is None else ((tokens >= 0) | is_reference) & ~keeps_text
        words = self._one_hot(torch.where(is_dropped, _NOTHING, tokens), self._words)
        heard = self._one_hot(torch.where(is_frame[..., None], past, _NOTHING), self._codes).flatten(-2)
        x = words @ lm.text_embeddings.weight + heard @ lm.audio_embeddings.weight
        x = x + (is_reference & ~is_dropped)[..., None].to(x.dtype) * lm.muq_linear.bias
        return x + is_dropped[..., None].to(x.dtype) * lm.unconditional_text_embedding.weight[0]

    def _one_hot(self, values: Tensor, classes: Tensor) -> Tensor:
        return (values[..., None] == classes).to(self._dtype)

    def _depth(self, lm: HeartMuLa, hidden: Tensor, targets: Tensor) -> Tensor:
        """hidden [N, D], targets [N, 8] -> nats [N, 7]."""
        count, classes = len(hidden), self._lm.audio_vocab_size
        tables = lm.projection(lm.audio_embeddings.weight.view(CODEBOOKS, classes, -1)[:-1])  # [7, V, Dd]
        heard = torch.bmm(self._one_hot(targets[:, :-1].T, self._codes), tables)  # [7, N, Dd]
        inputs = torch.cat((lm.projection(hidden)[:, None], heard.transpose(0, 1)), dim=1)
        x = inputs.reshape(count // _PACKED, _PACKED * CODEBOOKS, -1)
        for block in lm.decoder.layers:
            x = fused_block(x, block, self._depth_rope, self._depth_mask)
        outputs = fused_norm(x, lm.decoder.norm).view(count, CODEBOOKS, -1)[:, 1:].transpose(0, 1)  # [7, N, Dd]
        logits = torch.bmm(outputs, lm.audio_head).float()
        nats = F.cross_entropy(logits.flatten(0, 1), targets[:, 1:].T.flatten(), reduction="none")
        return nats.view(CODEBOOKS - 1, count).T

    def _counting(self, model: CountingModel, early: Tensor, late: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Inner layers [B, T, D] twice, labels [B, T, 6] -> nats [6] and part right [6]."""
        inputs = {True: F.rms_norm(early, early.shape[-1:]), False: F.rms_norm(late, late.shape[-1:])}
        nats, right = [], []
        for name, wanted in zip(LABELS, labels.flatten(0, 1).unbind(-1), strict=True):
            logits = model.heads[name](inputs[name in _EARLY]).float().flatten(0, 1)
            counts = wanted != NONE
            nats.append(F.cross_entropy(logits, torch.where(counts, wanted, _IGNORED)))
            right.append(((logits.argmax(-1) == wanted) & counts).sum() / counts.sum())
        return torch.stack(nats), torch.stack(right).detach()
