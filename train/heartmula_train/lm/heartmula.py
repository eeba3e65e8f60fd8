"""HeartMuLa: from a prompt and frames of codes to the logits of the next codes (lm.md B1 to B7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heartmula_train.lm.config import CODEBOOKS, LmConfig
from heartmula_train.lm.transformer import KvCache, Transformer


class HeartMuLa(nn.Module):
    """Backbone over positions, depth decoder over the codebooks of a frame."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.config = config
        width, depth_width, codes = config.backbone.embed_dim, config.decoder.embed_dim, config.audio_vocab_size
        self.text_embeddings = nn.Embedding(config.text_vocab_size, width)
        self.audio_embeddings = nn.Embedding(codes * CODEBOOKS, width)
        self.unconditional_text_embedding = nn.Embedding(1, width)
        self.backbone = Transformer(config.backbone)
        self.decoder = Transformer(config.decoder)
        self.projection = nn.Linear(width, depth_width, bias=False)
        self.codebook0_head = nn.Linear(width, codes, bias=False)
        self.audio_head = nn.Parameter(torch.empty(CODEBOOKS - 1, depth_width, codes))
        self.muq_linear = nn.Linear(config.muq_dim, width)
        self.register_buffer("_slots", torch.arange(CODEBOOKS) * codes, persistent=False)
        self.initialize()

    def initialize(self) -> None:
        """Normal weights for training from nothing: 0.02 for embeddings, 1/sqrt(inputs) for products."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for stack in (self.backbone, self.decoder):
            for block in stack.layers:
                for last in (block.attn.output_proj, block.mlp.w2):
                    nn.init.normal_(last.weight, std=(2 * stack.config.num_layers * last.in_features) ** -0.5)
        nn.init.normal_(self.audio_head, std=self.config.decoder.embed_dim**-0.5)

    def embed_prompt(self, text_ids: Tensor, reference_index: int, conditional: bool = True) -> Tensor:
        """text_ids [P] -> [P, D]; the reference's position holds muq_linear(0), its bias."""
        if not conditional:
            return self.unconditional_text_embedding.weight.expand(text_ids.shape[0], -1)
        rows = self.text_embeddings(text_ids)
        reference = self.muq_linear.bias[None, :]
        return torch.cat((rows[:reference_index], reference, rows[reference_index + 1 :]))

    def embed_frames(self, codes: Tensor) -> Tensor:
        """codes [..., 8] -> [..., D], the sum of the eight embeddings."""
        return self.audio_embeddings(codes + self._slots).sum(-2)

    def first_logits(self, hidden: Tensor) -> Tensor:
        """Backbone outputs [..., D] -> logits of codebook 0, [..., V]."""
        return self.codebook0_head(hidden)

    def depth_inputs(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden [N, D] and the first n codes [N, n] -> inputs of the depth decoder, [N, 1 + n, Dd]."""
        embedded = self.audio_embeddings(codes + self._slots[: codes.shape[-1]])
        return self.projection(torch.cat((hidden[:, None, :], embedded), dim=1))

    def depth_logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """With forced codes [N, 8]: logits of codebooks 1 to 7, [N, 7, V]."""
        outputs = self.decoder(self.depth_inputs(hidden, codes[:, : CODEBOOKS - 1]))
        return torch.einsum("nqd,qdv->nqv", outputs[:, 1:], self.audio_head)


class LmSession:
    """One song being made: rows are [conditional] or [conditional, unconditional]."""

    def __init__(self, model: HeartMuLa, guided: bool) -> None:
        self.model = model
        self.guided = guided
        self._cache = KvCache(model.config.backbone.num_layers)
        self._depth_cache = KvCache(model.config.decoder.num_layers)
        self.hidden = torch.empty(0)  # [rows, D], of the newest position

    def prefill(self, text_ids: Tensor, reference_index: int) -> None:
        """Feeds the prompt, text_ids [P]."""
        rows = [self.model.embed_prompt(text_ids, reference_index)]
        if self.guided:
            rows.append(self.model.embed_prompt(text_ids, reference_index, conditional=False))
        self.hidden = self.model.backbone(torch.stack(rows), self._cache)[:, -1]

    def first_logits(self) -> Tensor:
        """Logits of codebook 0, [rows, V]."""
        return self.model.first_logits(self.hidden)

    def next_logits(self, codebook: int, previous_code: int) -> Tensor:
        """Logits [rows, V] of `codebook` 1 to 7, given the code of the one before it."""
        rows = self.hidden.shape[0]
        index = previous_code + (codebook - 1) * self.model.config.audio_vocab_size
        embedded = self.model.audio_embeddings.weight[index].expand(rows, 1, -1)
        if codebook == 1:
            self._depth_cache = KvCache(self.model.config.decoder.num_layers)
            embedded = torch.cat((self.hidden[:, None, :], embedded), dim=1)
        output = self.model.decoder(self.model.projection(embedded), self._depth_cache)[:, -1]  # [rows, Dd]
        return output @ self.model.audio_head[codebook - 1]

    def feed(self, codes: Tensor) -> None:
        """Feeds a whole frame, codes [8], to every row."""
        frame = self.model.embed_frames(codes).expand(self.hidden.shape[0], 1, -1)
        self.hidden = self.model.backbone(frame, self._cache)[:, -1]
