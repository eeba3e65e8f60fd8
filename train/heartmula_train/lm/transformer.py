"""The transformer of backbone and depth decoder (lm.md B1 to B3)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from heartmula_train.lm.config import TransformerConfig

# Constants of the Llama-3 scaling, not the model's max_seq_len.
_OLD_CONTEXT = np.float32(8192.0)
_LOW_FREQUENCY_FACTOR = np.float32(1.0)
_HIGH_FREQUENCY_FACTOR = np.float32(4.0)


def llama3_frequencies(head_dim: int, base: float, scale_factor: float) -> np.ndarray:
    """Radians a position for each pair, float32 [head_dim / 2], every operation rounded to float32."""
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    power = np.power(np.float64(base), exponent.astype(np.float64)).astype(np.float32)
    frequency = np.float32(1.0) / power
    wavelength = np.float32(2.0 * math.pi) / frequency
    factor = np.float32(scale_factor)
    smooth = (_OLD_CONTEXT / wavelength - _LOW_FREQUENCY_FACTOR) / (_HIGH_FREQUENCY_FACTOR - _LOW_FREQUENCY_FACTOR)
    blended = (np.float32(1.0) - smooth) * frequency / factor + smooth * frequency
    scaled = np.where(wavelength > _OLD_CONTEXT / _LOW_FREQUENCY_FACTOR, frequency / factor, blended)
    return np.where(wavelength < _OLD_CONTEXT / _HIGH_FREQUENCY_FACTOR, frequency, scaled).astype(np.float32)


def rope_table(frequencies: np.ndarray, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32 [positions, pairs], of angles rounded to float32."""
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies[None, :]
    angles = angles.astype(np.float64)
    return torch.from_numpy(np.cos(angles).astype(np.float32)), torch.from_numpy(np.sin(angles).astype(np.float32))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates interleaved pairs: x [..., T, heads, 2 n] by cos, sin [..., T, n]."""
    cos, sin = cos[..., None, :].to(x.dtype), sin[..., None, :].to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


class KvCache:
    """Rotated keys and values of every layer, [B, kv heads, T, head_dim], grown by concatenation."""

    def __init__(self, num_layers: int) -> None:
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * num_layers

    @property
    def length(self) -> int:
        """Positions held."""
        first = self._layers[0]
        return 0 if first is None else first[0].shape[2]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds positions to a layer and returns all that it holds."""
        held = self._layers[layer]
        if held is not None:
            keys, values = torch.cat((held[0], keys), dim=2), torch.cat((held[1], values), dim=2)
        self._layers[layer] = (keys, values)
        return keys, values

    def first(self, positions: int) -> KvCache:
        """A cache of its own that holds the first positions of this one."""
        cut = KvCache(0)
        cut._layers = [held and (held[0][:, :, :positions], held[1][:, :, :positions]) for held in self._layers]
        return cut


class RmsNorm(nn.Module):
    """x / RMS(x) in float32, back to the dtype of x, times `scale`."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.scale


class Attention(nn.Module):
    """Causal attention with grouped keys and values; no biases."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.embed_dim, config.embed_dim, bias=False)
        self.k_proj = nn.Linear(config.embed_dim, config.num_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.embed_dim, config.num_kv_heads * config.head_dim, bias=False)
        self.output_proj = nn.Linear(config.embed_dim, config.embed_dim, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: KvCache | None, layer: int, mask: Tensor | None = None
    ) -> Tensor:
        """x [B, T, D] -> [B, T, D]; with a cache, T is 1 once the cache holds something, unless a `mask` says what is
        seen, [B, 1, T, positions in all].
        """
        batch, length, _ = x.shape
        q = rotate(self.q_proj(x).view(batch, length, self.num_heads, self.head_dim), cos, sin).transpose(1, 2)
        k = rotate(self.k_proj(x).view(batch, length, self.num_kv_heads, self.head_dim), cos, sin).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.num_kv_heads, self.head_dim).transpose(1, 2)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        group = self.num_heads // self.num_kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        is_causal = mask is None and length > 1
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)  # [B, H, T, hd]
        return self.output_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    """w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.embed_dim, config.intermediate_dim, bias=False)
        self.w2 = nn.Linear(config.intermediate_dim, config.embed_dim, bias=False)
        self.w3 = nn.Linear(config.embed_dim, config.intermediate_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """h = x + attn(sa_norm x); h + mlp(mlp_norm h)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.mlp = Mlp(config)
        self.sa_norm = RmsNorm(config.embed_dim, config.norm_eps)
        self.mlp_norm = RmsNorm(config.embed_dim, config.norm_eps)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: KvCache | None, layer: int, mask: Tensor | None = None
    ) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x = x + self.attn(self.sa_norm(x), cos, sin, cache, layer, mask)
        return x + self.mlp(self.mlp_norm(x))


class RecordedKeys(KvCache):
    """Keys and values of one pass over all positions, for `Transformer.branches`; the pass may compute blocks twice."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Holds what it is given."""
        self._layers[layer] = (keys, values)
        return keys, values


class _Branches(KvCache):
    """Positions that go on from recorded ones and leave them as they are."""

    def __init__(self, recorded: RecordedKeys) -> None:
        super().__init__(0)
        self._layers = recorded._layers

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What is recorded, and these behind it."""
        held = self._layers[layer]
        return torch.cat((held[0], keys), dim=2), torch.cat((held[1], values), dim=2)


class Transformer(nn.Module):
    """Blocks and a final norm; embeddings and heads belong to the model around it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RmsNorm(config.embed_dim, config.norm_eps)
        self.recompute = False  # blocks are computed again in the backward pass, instead of keeping what is in them
        frequencies = llama3_frequencies(config.head_dim, config.rope_base, config.scale_factor)
        cos, sin = rope_table(frequencies, config.max_seq_len)
        self.register_buffer("_cos", cos, persistent=False)
        self.register_buffer("_sin", sin, persistent=False)

    def forward(self, x: Tensor, cache: KvCache | None = None) -> Tensor:
        """Inputs [B, T, D] at the positions that follow the cache's; returns float32 [B, T, D] after the norm."""
        begin = cache.length if cache is not None else 0
        length = x.shape[1]
        if begin + length > self.config.max_seq_len:
            raise ValueError(f"{begin + length} positions, but the context has {self.config.max_seq_len}")
        if begin > 0 and length != 1:
            raise ValueError("after the prefill, one position at a time")
        cos, sin = self._cos[begin : begin + length], self._sin[begin : begin + length]
        for index, block in enumerate(self.layers):
            x = self._through(block, x, cos, sin, cache, index)
        return self.norm(x).float()

    def _through(self, block: Block, x: Tensor, *more: Tensor | KvCache | int | None) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, x, *more, use_reentrant=False)
        return block(x, *more)

    def exits(self, x: Tensor, kept: Tensor | None = None) -> Iterator[Tensor]:
        """Inputs [B, T, D] -> after each block what `forward` would return if it were the last one, float32 [B, T, D].

        A block leaves rows as they are that bool `kept` [layers, B] denies it (layer dropout).
        """
        cos, sin = self._cos[: x.shape[1]], self._sin[: x.shape[1]]
        for index, block in enumerate(self.layers):
            if kept is None or bool(kept[index].all()):
                x = self._through(block, x, cos, sin, None, index)
            elif bool(kept[index].any()):
                rows = kept[index].nonzero()[:, 0]
                x = x.index_copy(0, rows, self._through(block, x[rows], cos, sin, None, index).to(x.dtype))
            yield self.norm(x).float()

    def branches(self, x: Tensor, positions: Tensor, recorded: RecordedKeys, mask: Tensor) -> Tensor:
        """Inputs [B, Q, D] at `positions` [B, Q] beside a sequence [B, T, D] that is recorded: float32 [B, Q, D].

        Bool `mask` [B, Q, T + Q] says which of the recorded positions, and of these, each may see. Recorded with
        gradients, this is one pass over T + Q packed positions.
        """
        cos, sin = self._cos[positions], self._sin[positions]
        for index, block in enumerate(self.layers):
            x = self._through(block, x, cos, sin, _Branches(recorded), index, mask[:, None])
        return self.norm(x).float()
