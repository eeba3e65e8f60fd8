"""What is timed: modules of train/ at the sizes of the 3B checkpoint, with random weights and inputs.

Every piece is a module and its inputs as PyTorch, ONNX and the others take them, and the same numbers as tensors for
ours.cpp, which packs matrices [outputs, inputs].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from heartmula_train.codec.config import CodecConfig
from heartmula_train.codec.velocity_transformer import TransformerBlock
from heartmula_train.codec.wave_decoder import UpBlock
from heartmula_train.lm.config import FLAVORS
from heartmula_train.lm.transformer import Block, KvCache, llama3_frequencies, rope_table

CONTEXT = 512  # positions that a decoded row sees, its own included
PROMPT = 400
WINDOW = 744  # latent frames of the flow's window
PAIR = 2  # guidance in the flow, left and right in the wave decoder
STAGE = 3  # of the wave decoder: 512 channels to 256, four samples for one
STAGE_ROWS = 500  # that come to it in a second of music


@dataclass
class Piece:
    """One module, what goes in, and the same for ours."""

    module: nn.Module
    inputs: dict[str, Tensor]
    ours: dict[str, Tensor]  # float32
    rows: Callable[[Tensor], Tensor]  # the module's output as ours has it, [rows, channels]
    residual: bool  # the output is x and something: compare what is added


class _Decoded(nn.Module):
    """A backbone layer on one new position of each stream, behind keys and values that are given."""

    def __init__(self, block: Block, cos: Tensor, sin: Tensor) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        cache = KvCache(1)
        cache.append(0, keys, values)
        return self.block(x, self.cos, self.sin, cache, 0)


class _Prefilled(nn.Module):
    """A backbone layer on a prompt, causal, from position 0."""

    def __init__(self, block: Block, cos: Tensor, sin: Tensor) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, self.cos, self.sin, None, 0)


class _Flow(nn.Module):
    """A block of the velocity transformer on whole windows."""

    def __init__(self, block: TransformerBlock, cos: Tensor, sin: Tensor) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        return self.block(x, modulation, self.cos, self.sin)


def _layer(streams: int, decoded: bool) -> Piece:
    config = FLAVORS["llama-3B"]
    block = Block(config)
    for norm in (block.sa_norm, block.mlp_norm):
        nn.init.normal_(norm.scale, 1.0, 0.1)
    frequencies = llama3_frequencies(config.head_dim, config.rope_base, config.scale_factor)
    cos, sin = rope_table(frequencies, CONTEXT)
    ours = {f"layers.0.{name}": weight for name, weight in block.named_parameters()}
    ours["norm.scale"] = torch.ones(config.embed_dim)
    if not decoded:
        x = torch.randn(1, PROMPT, config.embed_dim)
        module = _Prefilled(block, cos[:PROMPT], sin[:PROMPT])
        return Piece(module, {"x": x}, {**ours, "x": x[0]}, lambda out: out.flatten(0, 1), True)
    x = torch.randn(streams, 1, config.embed_dim)
    keys, values = torch.randn(2, streams, config.num_kv_heads, CONTEXT - 1, config.head_dim)
    ours["x"] = x[:, 0]
    for name, past in (("keys", keys), ("values", values)):  # [streams * positions, heads * size]
        ours[name] = past.transpose(1, 2).flatten(2).flatten(0, 1)
    inputs = {"x": x, "keys": keys, "values": values}
    return Piece(_Decoded(block, cos[CONTEXT - 1 :], sin[CONTEXT - 1 :]), inputs, ours, lambda out: out[:, 0], True)


def _flow(scale: int) -> Piece:
    config = CodecConfig()
    width, heads = scale * config.width, config.num_attention_heads
    block = TransformerBlock(width, heads)
    for norm in (block.attn_norm, block.mlp_norm):
        nn.init.normal_(norm.weight, 1.0, 0.1)
    exponents = np.arange(0, width // heads, 2, dtype=np.float32) / np.float32(width // heads)
    cos, sin = rope_table((10000.0**-exponents).astype(np.float32), WINDOW)
    x = torch.randn(PAIR, WINDOW, width)
    modulation = torch.randn(1, 6 * width) * 0.5
    ours = {**dict(block.named_parameters()), "cos": cos, "sin": sin, "x": x.flatten(0, 1)}
    ours["scale_shift_table"] = block.scale_shift_table + modulation.view(6, width)
    inputs = {"x": x, "modulation": modulation.expand(PAIR, -1).contiguous()}
    return Piece(_Flow(block, cos, sin), inputs, ours, lambda out: out.flatten(0, 1), True)


def _wave() -> Piece:
    config = CodecConfig()
    channels = (config.init_channel << len(config.upsample_factors)) >> (STAGE - 1)
    factor = config.upsample_factors[STAGE - 1]
    stage = UpBlock(channels, channels // 2, factor, config.res_kernel_size)
    for module in list(stage.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    x = torch.randn(PAIR, channels, STAGE_ROWS)
    up = stage.up_conv.layer  # output s j + r is W[:, :, r + s]^T x[j - 1] + W[:, :, r]^T x[j]
    taps = torch.stack((up.weight[..., factor:], up.weight[..., :factor]))  # [2, in, out, s]
    ours = {"x": x.transpose(1, 2).flatten(0, 1), "up": taps.permute(3, 2, 0, 1).flatten(2).flatten(0, 1)}
    ours["up_bias"] = up.bias.repeat(factor)
    for index, unit in enumerate(stage.convs):
        for number, conv, prelu in ((1, unit.conv1, unit.activation1), (2, unit.conv2, unit.activation2)):
            name = f"{index}.conv{number}"
            ours[name] = conv.weight.transpose(1, 2).flatten(1)  # [outputs, taps * channels]
            ours[name + "_bias"] = conv.bias
            ours[name + "_slope"] = prelu.weight
        ours[f"{index}.dilation"] = torch.tensor([float(unit.conv1.dilation[0])])
    return Piece(stage, {"x": x}, ours, lambda out: out.transpose(1, 2).flatten(0, 1), False)


PIECES: dict[str, Callable[[], Piece]] = {
    "layer, 2 rows": lambda: _layer(2, decoded=True),
    "layer, 8 rows": lambda: _layer(8, decoded=True),
    "layer, 400 rows": lambda: _layer(1, decoded=False),
    "flow block of 1536": lambda: _flow(1),
    "flow block of 3072": lambda: _flow(2),
    "wave stage": _wave,
}


def make(name: str) -> Piece:
    """The same numbers each time."""
    torch.manual_seed(list(PIECES).index(name))
    piece = PIECES[name]()
    piece.module.requires_grad_(False).eval()
    piece.ours = {key: value.detach().float().contiguous() for key, value in piece.ours.items()}
    return piece
