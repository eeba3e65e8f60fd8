"""What drafters take of the language model: embeddings of frames, the head of code 0, where a depth decoder begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from heartmula_train.lm.config import CODEBOOKS, LmConfig
from heartmula_train.song.checkpoint import INDEX_NAME, WEIGHTS_NAME, read_json

_EMBEDDINGS, _HEAD = "audio_embeddings.weight", "codebook0_head.weight"


def _read(folder: Path, shapes: dict[str, list[int]]) -> list[Tensor]:
    """Some tensors of HeartMuLa-oss-*/, as float32; the others are not read."""
    files = read_json(folder / INDEX_NAME)["weight_map"] if (folder / INDEX_NAME).exists() else {}
    tensors = []
    for name, shape in shapes.items():
        path = folder / files.get(name, WEIGHTS_NAME)
        with safe_open(path, "pt") as file:
            if name not in file.keys():  # noqa: SIM118
                raise ValueError(f"{path}: {name} is missing")
            tensors.append(file.get_tensor(name).float())
        if list(tensors[-1].shape) != shape:
            raise ValueError(f"{path}: {name} is {list(tensors[-1].shape)}, but the config says {shape}")
    return tensors


class LanguageModelEnds(nn.Module):
    """Frozen, in float32; the layers between them are not read."""

    def __init__(self, config: LmConfig, embeddings: Tensor, head: Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("_embeddings", embeddings)  # [8 V, D]
        self.register_buffer("_head", head)  # [V, D]
        self.register_buffer("_slots", torch.arange(CODEBOOKS) * config.audio_vocab_size)

    @staticmethod
    def load(folder: Path) -> LanguageModelEnds:
        """From HeartMuLa-oss-*/."""
        config = LmConfig.from_json(read_json(folder / "config.json"))
        codes, width = config.audio_vocab_size, config.backbone.embed_dim
        shapes = {_EMBEDDINGS: [CODEBOOKS * codes, width], _HEAD: [codes, width]}
        return LanguageModelEnds(config, *_read(folder, shapes))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._head.device

    def embed_frames(self, codes: Tensor) -> Tensor:
        """codes [..., 8] -> [..., D], as the backbone takes them."""
        return self._embeddings[codes + self._slots].sum(-2)

    def first_logits(self, hidden: Tensor, guidance: float) -> Tensor:
        """h [..., 2, D] -> guided logits of code 0, [..., V]."""
        conditional, unconditional = hidden.unbind(-2)
        return (unconditional + guidance * (conditional - unconditional)) @ self._head.T


@dataclass(frozen=True)
class DepthEnds:
    """What is before and behind the layers of the language model's depth decoder, Dd wide."""

    projection: Tensor  # [Dd, D]
    embeddings: Tensor  # [7 V, Dd], projected, of codebooks 0 to 6
    heads: Tensor  # [7, Dd, V], with the scale of the norm before them

    @staticmethod
    def load(folder: Path) -> DepthEnds:
        """From HeartMuLa-oss-*/."""
        config = LmConfig.from_json(read_json(folder / "config.json"))
        codes, width, depth = config.audio_vocab_size, config.backbone.embed_dim, config.decoder.embed_dim
        shapes = {
            _EMBEDDINGS: [CODEBOOKS * codes, width],
            "projection.weight": [depth, width],
            "audio_head": [CODEBOOKS - 1, depth, codes],
            "decoder.norm.scale": [depth],
        }
        embeddings, projection, heads, scale = _read(folder, shapes)
        return DepthEnds(projection, embeddings[:-codes] @ projection.T, heads * scale[:, None])

    def directions(self, count: int) -> Tensor:
        """[count, Dd]: the principal ones of embeddings and heads together, orthonormal; zeros beyond Dd."""
        outer = self.embeddings.T @ self.embeddings / self.embeddings.square().sum()
        outer = outer + torch.einsum("qdv,qev->de", self.heads, self.heads) / self.heads.square().sum()
        found = torch.linalg.eigh(outer).eigenvectors.T.flip(0)[:count]
        return torch.cat((found, found.new_zeros(count - len(found), found.shape[1])))
