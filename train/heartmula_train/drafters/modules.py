"""The three drafters, with the tensor names of drafter.safetensors.

h of a frame is [h_c, h_u], the backbone's outputs for the conditional and the unconditional row from which the frame is
made; D their width, V codes of a codebook.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heartmula_train.drafters.language_model import DepthEnds
from heartmula_train.lm.config import CODEBOOKS, TransformerConfig
from heartmula_train.lm.transformer import KvCache, Transformer

DRAFTED = CODEBOOKS - 1  # codebooks of the micro depth decoder; code 0 is the language model's own head's


class MicroDepthDecoder(nn.Module):
    """A small depth decoder: one row for both streams, which predicts the guided logits of codes 1 to 7 at once."""

    def __init__(self, width: int, codes: int, config: TransformerConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * width, config.embed_dim, bias=False)
        self.embeddings = nn.Embedding(DRAFTED * codes, config.embed_dim)
        self.decoder = Transformer(config)
        self.heads = nn.Parameter(torch.empty(DRAFTED, config.embed_dim, codes))
        self.register_buffer("_slots", torch.arange(DRAFTED) * codes, persistent=False)
        _initialize(self)
        nn.init.normal_(self.heads, std=config.embed_dim**-0.5)

    @torch.no_grad()
    def begin_as(self, model: DepthEnds, guidance: float) -> None:
        """Takes over the language model's embeddings and heads, in its principal directions, not its layers.

        From nothing, the geometry of codes takes most of a short training: of the demo's songs at a temperature of 0.8,
        drafts matched 8 % after 848 steps of 128 frames (rate 3e-3), and so 30 % after 821 (2e-3).
        """
        directions = model.directions(self.hidden.out_features)
        projection = directions @ model.projection
        self.hidden.weight.copy_(torch.cat((guidance * projection, (1 - guidance) * projection), 1))
        self.embeddings.weight.copy_(model.embeddings @ directions.T)
        self.heads.copy_(torch.einsum("ed,qdv->qev", directions, model.heads))

    def inputs(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden [N, 2, D] and a frame's first n codes [N, n] -> [N, 1 + n, d]."""
        embedded = self.embeddings(codes + self._slots[: codes.shape[-1]])
        return torch.cat((self.hidden(hidden.flatten(-2))[:, None], embedded), dim=1)

    def forward(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden [N, 2, D] and the frame's codes [N, 8] -> logits of codes 1 to 7 given those before, [N, 7, V]."""
        outputs = self.decoder(self.inputs(hidden, codes[:, :DRAFTED]))
        return torch.einsum("nqd,qdv->nqv", outputs[:, 1:], self.heads)

    def next_logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """The first n >= 1 codes [N, n] -> logits of code n, [N, V]."""
        return self.decoder(self.inputs(hidden, codes))[:, -1] @ self.heads[codes.shape[-1] - 1]


class FrameDrafter(nn.Module):
    """EAGLE's form: from h of a frame and the frame itself to h of the next one; begins with h of the frame."""

    def __init__(self, width: int, config: TransformerConfig) -> None:
        super().__init__()
        self.input = nn.Linear(3 * width, config.embed_dim, bias=False)
        self.decoder = Transformer(config)
        self.output = nn.Linear(config.embed_dim, 2 * width, bias=False)
        _initialize(self)
        nn.init.zeros_(self.output.weight)

    def forward(self, hidden: Tensor, embedded: Tensor, cache: KvCache | None = None) -> Tensor:
        """hidden [B, T, 2, D] and the frames' embeddings [B, T, D] -> h of the frames after them, [B, T, 2, D]."""
        x = self.input(torch.cat((hidden.flatten(-2), embedded), dim=-1))
        return hidden + self.output(self.decoder(x, cache)).float().view_as(hidden)


class MedusaHeads(nn.ModuleList):
    """For each offset I: h of frame t + 1 + I is h + silu(W_I h), each row by itself; begins with h.

    Named medusa.0.weight, medusa.1.weight, ...
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(nn.Linear(width, width, bias=False) for _ in range(heads))
        for head in self:
            nn.init.zeros_(head.weight)

    def estimate(self, hidden: Tensor, offset: int) -> Tensor:
        """[..., 2, D] -> [..., 2, D]."""
        return hidden + F.silu(self[offset](hidden)).float()


def _initialize(drafter: nn.Module) -> None:
    """As the language model begins."""
    for module in drafter.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    stack = drafter.decoder
    for block in stack.layers:
        for last in (block.attn.output_proj, block.mlp.w2):
            nn.init.normal_(last.weight, std=(2 * stack.config.num_layers * last.in_features) ** -0.5)
