"""The velocity of flow matching (codec.md A6)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heartmula_train.codec.config import LATENTS_PER_CODE, CodecConfig
from heartmula_train.lm.transformer import rope_table, rotate

_EPS = 1e-6
_TIME_FREQUENCIES = 256
_ROPE_BASE = 10000.0
_WINDOW = 744  # longest run of latent frames
assert _WINDOW % LATENTS_PER_CODE == 0


def _frequencies() -> np.ndarray:
    """f_i, float32 [256], from 1 down to 1e-4."""
    steps = np.arange(_TIME_FREQUENCIES, dtype=np.float32)
    exponent = np.float32(-math.log(10000.0)) * steps / np.float32(_TIME_FREQUENCIES)
    return np.exp(exponent.astype(np.float64)).astype(np.float32)


def time_rates() -> Tensor:
    """How fast each angle of `time_features` turns [256], in radians over the whole time."""
    return 1000.0 * torch.from_numpy(_frequencies())


class _TimeFeatures(torch.autograd.Function):
    """Numbers as the specification rounds them, with a forward derivative; no gradient."""

    @staticmethod
    def forward(t: Tensor) -> Tensor:
        angles = (t.detach().float().cpu().numpy()[:, None] * _frequencies()[None, :]) * np.float32(1000.0)
        angles = angles.astype(np.float64)
        features = np.concatenate((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)
        return torch.from_numpy(features).to(t.device)

    @staticmethod
    def setup_context(ctx: Any, _inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_forward(output)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        cos, sin = ctx.saved_tensors[0].chunk(2, dim=-1)
        rate = time_rates().to(cos) * tangent[:, None]
        return torch.cat((-rate * sin, rate * cos), dim=-1)


def time_features(t: Tensor) -> Tensor:
    """t [B] -> [cos a, sin a] float32 [B, 512], a = (t f_i) 1000, each operation rounded to float32."""
    return _TimeFeatures.apply(t)


class ProjectLayer(nn.Module):
    """Linear(3^-0.5 Conv1d_k3(x)), zeros beyond the ends."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.ffn_1 = nn.Conv1d(inputs, outputs, 3, padding=1)
        self.ffn_2 = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, inputs] -> [B, T, outputs]."""
        return self.ffn_2(self.ffn_1(x.transpose(1, 2)).transpose(1, 2) * 3**-0.5)


class _TimestepEmbedder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(2 * _TIME_FREQUENCIES, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(time_features(t))))


class _Embedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = _TimestepEmbedder(width)


class AdaLayerNormSingle(nn.Module):
    """t -> modulation of every block [B, 6 D] and the embedding itself [B, D]; a student's knows the interval, too."""

    def __init__(self, width: int, student: bool) -> None:
        super().__init__()
        self.emb = _Embedding(width)
        if student:
            self.interval_embedder = _TimestepEmbedder(width)
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, t: Tensor, interval: Tensor | None) -> tuple[Tensor, Tensor]:
        """t and a student's interval [B] -> ([B, 6 D], [B, D])."""
        embedded = self.emb.timestep_embedder(t)
        if interval is not None:
            embedded = embedded + self.interval_embedder(interval)
        return self.linear(F.silu(embedded)), embedded


class _RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + _EPS)).to(x.dtype) * self.weight


class _Attention(nn.Module):
    """Bidirectional, interleaved rotation of whole heads."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = (batch, length, self.num_heads, width // self.num_heads)
        q = rotate(self.q_proj(x).view(heads), cos, sin).transpose(1, 2)
        k = rotate(self.k_proj(x).view(heads), cos, sin).transpose(1, 2)
        v = self.v_proj(x).view(heads).transpose(1, 2)
        return self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = CodecConfig.mlp_width(width)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class TransformerBlock(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the time."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) * width**-0.5)
        self.attn_norm = _RmsNorm(width)
        self.attn = _Attention(width, num_heads)
        self.mlp_norm = _RmsNorm(width)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor, modulation: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [B, T, D], modulation [B, 6 D] -> [B, T, D]."""
        table = self.scale_shift_table + modulation.view(-1, 6, x.shape[-1])  # [B, 6, D]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = (row[:, None, :] for row in table.unbind(1))
        x = x + gate_1 * self.attn(self.attn_norm(x) * (1 + scale_1) + shift_1, cos, sin)
        return x + gate_2 * self.mlp(self.mlp_norm(x) * (1 + scale_2) + shift_2)


class VelocityTransformer(nn.Module):
    """v = est([x, in-context latents, mu], t): two stacks, the second twice as wide.

    A student's answer is U, the mean velocity over an interval that begins at t (codec_speed.md C3).
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width, heads, student = config.width, config.num_attention_heads, bool(config.student_steps)
        self.proj_in = ProjectLayer(config.in_channels, width)
        self.adaln_single = AdaLayerNormSingle(width, student)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(config.num_layers))
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) * width**-0.5)
        self.connection_proj = ProjectLayer(config.in_channels + width, 2 * width)
        self.adaln_single_2 = AdaLayerNormSingle(2 * width, student)
        self.transformer_blocks_2 = nn.ModuleList(
            TransformerBlock(2 * width, heads) for _ in range(config.num_layers_2)
        )
        self.scale_shift_table_2 = nn.Parameter(torch.randn(2, 2 * width) * (2 * width) ** -0.5)
        self.proj_out = ProjectLayer(2 * width, config.out_channels)
        for suffix, head in (("", width // heads), ("_2", 2 * width // heads)):
            exponent = np.arange(0, head, 2, dtype=np.float32) / np.float32(head)
            power = np.power(_ROPE_BASE, exponent.astype(np.float64)).astype(np.float32)
            cos, sin = rope_table(np.float32(1.0) / power, _WINDOW)
            self.register_buffer("_cos" + suffix, cos, persistent=False)
            self.register_buffer("_sin" + suffix, sin, persistent=False)

    def forward(self, h: Tensor, t: Tensor, interval: Tensor | None = None) -> Tensor:
        """h [B, T, in_channels], t [B], for a student the interval's length [B] -> velocity [B, T, out_channels]."""
        length = h.shape[1]
        s = self.proj_in(h)  # [B, T, D]
        modulation, embedded = self.adaln_single(t, interval)
        for block in self.transformer_blocks:
            s = block(s, modulation, self._cos[:length], self._sin[:length])
        s = _modulated_norm(s, self.scale_shift_table, embedded)
        x = self.connection_proj(torch.cat((h, s), dim=-1))  # [B, T, 2 D]
        modulation, embedded = self.adaln_single_2(t, interval)
        for block in self.transformer_blocks_2:
            x = block(x, modulation, self._cos_2[:length], self._sin_2[:length])
        return self.proj_out(_modulated_norm(x, self.scale_shift_table_2, embedded))


def _modulated_norm(x: Tensor, table: Tensor, embedded: Tensor) -> Tensor:
    shift, scale = (table[None] + embedded[:, None]).unbind(1)  # [B, D] each; the same embedding for both
    return F.layer_norm(x, x.shape[-1:], eps=_EPS) * (1 + scale[:, None]) + shift[:, None]
