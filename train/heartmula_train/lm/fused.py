"""Blocks of the language model in few kernels, for training on a GPU: what Block.forward computes.

Weights that read the same input are one product. A rotation is one multiply and one multiply-add, for that product also
yields each pair (a, b) of queries and keys as (-b, a).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from heartmula_train.lm.config import TransformerConfig
from heartmula_train.lm.transformer import Block, RmsNorm, llama3_frequencies, rope_table

Rope = tuple[Tensor, Tensor]


def wide_rope(config: TransformerConfig, positions: int) -> Rope:
    """Cosines and sines for queries and keys side by side, float32 [positions, (heads + kv heads) * head_dim]."""
    frequencies = llama3_frequencies(config.head_dim, config.rope_base, config.scale_factor)
    cos, sin = rope_table(frequencies, positions)
    heads = config.num_heads + config.num_kv_heads
    return tuple(table.repeat_interleave(2, dim=1).repeat(1, heads) for table in (cos, sin))


def fused_norm(x: Tensor, norm: RmsNorm) -> Tensor:
    """x [..., dim] -> [..., dim], as RmsNorm.forward."""
    return F.rms_norm(x, x.shape[-1:], norm.scale, norm.eps)


def fused_block(x: Tensor, block: Block, rope: Rope, mask: Tensor | None = None) -> Tensor:
    """x [B, T, D] -> [B, T, D], as Block.forward without a cache; `mask` [T, T] is added to scores (none: causal)."""
    attention, batch, length = block.attn, *x.shape[:2]
    heads, kv_heads, size = attention.num_heads, attention.num_kv_heads, attention.head_dim
    qk = torch.cat((attention.q_proj.weight, attention.k_proj.weight))
    wide = qk.shape[0]
    projected = F.linear(fused_norm(x, block.sa_norm), torch.cat((qk, _turned(qk), attention.v_proj.weight)))
    rotated = torch.addcmul(projected[..., :wide] * rope[0], projected[..., wide : 2 * wide], rope[1])
    q = rotated[..., : heads * size].view(batch, length, heads, size).transpose(1, 2)
    k, v = (
        part.view(batch, length, kv_heads, 1, size)
        .expand(-1, -1, -1, heads // kv_heads, -1)
        .reshape(batch, length, heads, size)
        .transpose(1, 2)
        for part in (rotated[..., heads * size :], projected[..., 2 * wide :])
    )
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)  # [B, H, T, hd]
    x = x + attention.output_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
    mlp = block.mlp
    gate, up = F.linear(fused_norm(x, block.mlp_norm), torch.cat((mlp.w1.weight, mlp.w3.weight))).chunk(2, -1)
    return x + mlp.w2(F.silu(gate) * up)


def _turned(weight: Tensor) -> Tensor:
    """Rows (a, b) of a projection as (-b, a)."""
    return torch.stack((-weight[1::2], weight[0::2]), 1).flatten(0, 1)
