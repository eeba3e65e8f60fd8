"""Sizes of HeartCodec, from HeartCodec-oss/config.json (codec.md A1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

SAMPLE_RATE = 48000
NUM_QUANTIZERS = 8
SAMPLES_PER_LATENT = 1920  # latent frames at 25 Hz
LATENTS_PER_CODE = 2  # code frames at 12.5 Hz
SAMPLES_PER_CODE = SAMPLES_PER_LATENT * LATENTS_PER_CODE


@dataclass(frozen=True)
class CodecConfig:
    """Names as in config.json; defaults are the released checkpoint's."""

    # residual VQ
    codebook_size: int = 8192
    codebook_dim: int = 32
    dim: int = 512
    decay: float = 0.9
    commitment_weight: float = 1.0
    threshold_ema_dead_code: int = 2
    # velocity transformer
    num_attention_heads: int = 24
    attention_head_dim: int = 64
    num_layers: int = 24
    num_layers_2: int = 6
    # wave decoder
    latent_hidden_dim: int = 128
    init_channel: int = 64
    delay_kernel_size: int = 5
    default_kernel_size: int = 7
    res_kernel_size: int = 7
    upsample_factors: tuple[int, ...] = (5, 4, 4, 4, 3)
    num_samples: int = 2
    # a student's numbers of steps, on uniform grids, the default first; none for a flow that is solved with guidance
    student_steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if math.prod(self.upsample_factors) * self.num_samples != SAMPLES_PER_LATENT:
            raise ValueError(f"upsample_factors times num_samples are not {SAMPLES_PER_LATENT} samples a latent frame")
        if self.attention_head_dim % 2 or self.delay_kernel_size % 2 == 0:
            raise ValueError("attention_head_dim must be even, delay_kernel_size odd")
        if any(not isinstance(steps, int) or steps < 1 for steps in self.student_steps):
            raise ValueError(f"student.steps are {list(self.student_steps)}, not numbers of steps")

    @property
    def width(self) -> int:
        """Of the first stack of the velocity transformer; the second is twice as wide."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def out_channels(self) -> int:
        """Latents of both audio channels."""
        return 2 * self.latent_hidden_dim

    @property
    def in_channels(self) -> int:
        """Latents, in-context latents, conditioning."""
        return 2 * self.out_channels + self.dim

    @staticmethod
    def mlp_width(width: int) -> int:
        """floor(8 width / 3), rounded up to a multiple of 256."""
        return (8 * width // 3 + 255) // 256 * 256

    @staticmethod
    def from_json(content: dict[str, Any]) -> CodecConfig:
        """Reads config.json and checks what it repeats."""
        known = {field.name for field in fields(CodecConfig)}
        values = {name: value for name, value in content.items() if name in known}
        if "upsample_factors" in values:
            values["upsample_factors"] = tuple(values["upsample_factors"])
        if "student" in content:
            values["student_steps"] = tuple(content["student"]["steps"])
        config = CodecConfig(**values)
        expected = {
            "num_quantizers": NUM_QUANTIZERS,
            "sample_rate": SAMPLE_RATE,
            "in_channels": config.in_channels,
            "out_channels": config.out_channels,
            "upsample_kernel_sizes": [2 * factor for factor in config.upsample_factors],
        }
        for name, value in expected.items():
            if content.get(name, value) != value:
                raise ValueError(f"{name} is {content[name]}, not {value}")
        return config

    def to_json(self, dtype: str) -> dict[str, Any]:
        """The content of config.json for weights stored as `dtype`."""
        student = {"student": {"steps": list(self.student_steps)}} if self.student_steps else {}
        return {
            "architectures": ["HeartCodec"],
            "model_type": "heartcodec",
            "dtype": dtype,
            "attention_head_dim": self.attention_head_dim,
            "causal": True,
            "codebook_dim": self.codebook_dim,
            "codebook_size": self.codebook_size,
            "commitment_weight": self.commitment_weight,
            "decay": self.decay,
            "default_kernel_size": self.default_kernel_size,
            "delay_kernel_size": self.delay_kernel_size,
            "dim": self.dim,
            "downsample_factors": list(reversed(self.upsample_factors)),
            "downsample_kernel_sizes": [2 * factor for factor in reversed(self.upsample_factors)],
            "in_channels": self.in_channels,
            "init_channel": self.init_channel,
            "latent_hidden_dim": self.latent_hidden_dim,
            "norm_type": "ada_norm_single",
            "num_attention_heads": self.num_attention_heads,
            "num_bands": 1,
            "num_layers": self.num_layers,
            "num_layers_2": self.num_layers_2,
            "num_quantizers": NUM_QUANTIZERS,
            "num_samples": self.num_samples,
            "out_channels": self.out_channels,
            "res_kernel_size": self.res_kernel_size,
            "sample_rate": SAMPLE_RATE,
            "threshold_ema_dead_code": self.threshold_ema_dead_code,
            "upsample_factors": list(self.upsample_factors),
            "upsample_kernel_sizes": [2 * factor for factor in self.upsample_factors],
            "use_cosine_sim": False,
            **student,
        }
