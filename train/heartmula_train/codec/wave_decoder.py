"""Latents at 25 Hz -> samples at 48 kHz, one audio channel at a time (codec.md A7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from heartmula_train.codec.config import CodecConfig

LEVELS = 9.0
DILATIONS = (1, 3, 5, 7, 9)


def round_to_levels(latents: Tensor) -> Tensor:
    """To ninths, half to even; the gradient passes straight through."""
    rounded = torch.round(LEVELS * latents) / LEVELS
    return latents + (rounded - latents).detach() if latents.requires_grad else rounded


class CausalConv(nn.Conv1d):
    """Convolution that sees only the past: zeros before the first sample."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C', T]."""
        return super().forward(F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class _UpConv(nn.Module):
    """Transposed convolution of twice the factor, cut to the past."""

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.layer = weight_norm(nn.ConvTranspose1d(inputs, outputs, 2 * factor, factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[..., : -self.factor]


class ResidualUnit(nn.Module):
    """x + PReLU(conv1x1(PReLU(dilated causal conv x)))."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = weight_norm(CausalConv(channels, channels, kernel, dilation=dilation))
        self.activation1 = nn.PReLU()
        self.conv2 = weight_norm(nn.Conv1d(channels, channels, 1))
        self.activation2 = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        return x + self.activation2(self.conv2(self.activation1(self.conv1(x))))


class UpBlock(nn.Module):
    """Up-sampling, then five residual units."""

    def __init__(self, inputs: int, outputs: int, factor: int, kernel: int) -> None:
        super().__init__()
        self.up_conv = _UpConv(inputs, outputs, factor)
        self.convs = nn.ModuleList(ResidualUnit(outputs, kernel, dilation) for dilation in DILATIONS)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, T] -> [B, outputs, factor T]."""
        x = self.up_conv(x)
        for unit in self.convs:
            x = unit(x)
        return x


class PostBlock(nn.Module):
    """Repeats each sample, then a causal convolution (not weight-normed) and PReLU."""

    def __init__(self, channels: int, kernel: int, repeats: int) -> None:
        super().__init__()
        self.repeats = repeats
        self.conv = CausalConv(channels, channels, kernel)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, repeats T]."""
        return self.activation(self.conv(x.repeat_interleave(self.repeats, dim=-1)))


class WaveDecoder(nn.Sequential):
    """Latents [B, latent, T] -> samples [B, 1, 1920 T]; B counts audio channels."""

    def __init__(self, config: CodecConfig) -> None:
        channels = config.init_channel << len(config.upsample_factors)
        delay = config.delay_kernel_size
        stages: list[nn.Module] = [
            weight_norm(nn.Conv1d(config.latent_hidden_dim, channels, delay, padding=delay // 2))
        ]
        for factor in config.upsample_factors:
            stages.append(UpBlock(channels, channels // 2, factor, config.res_kernel_size))
            channels //= 2
        stages.append(PostBlock(channels, config.default_kernel_size, config.num_samples))
        stages.append(weight_norm(CausalConv(channels, 1, config.default_kernel_size)))
        super().__init__(*stages)


class ScalarModel(nn.Module):
    """The part of the wave autoencoder that a checkpoint ships: its decoder."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.decoder = WaveDecoder(config)

    def decode(self, latents: Tensor) -> Tensor:
        """latents [T, left | right], not yet rounded -> samples [2, 1920 T]."""
        channels = torch.stack(latents.chunk(2, dim=-1)).transpose(1, 2)  # [2, latent, T]
        return self.decoder(round_to_levels(channels))[:, 0]
