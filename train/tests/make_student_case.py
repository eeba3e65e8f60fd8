"""Makes tests/golden/data/student1: a small student with random weights, and the latents that PyTorch makes with it.

Usage, in train/: python tests/make_student_case.py ../tests/golden/data/student1
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from heartmula_train.codec.config import NUM_QUANTIZERS, CodecConfig
from heartmula_train.codec.flow_sampler import sample_student
from heartmula_train.codec.heartcodec import HeartCodec
from heartmula_train.song.checkpoint import CODEC_FOLDER, load_codec, save_codec, write_file

STEPS = (4, 2, 1)
CODES, CONTEXT = 24, 8  # code frames; latent frames that are given
SIZES = {
    "codebook_size": 16,
    "codebook_dim": 4,
    "dim": 16,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 1,
    "num_layers_2": 1,
    "latent_hidden_dim": 4,
    "init_channel": 1,
}
# The base's folder holds the teacher, FULL and PART the same student: PART only what differs from the base.
BASE, FULL, PART = "HeartCodec-base", CODEC_FOLDER, "HeartCodec-student"


def make_codec(generator: torch.Generator) -> HeartCodec:
    """A student whose every tensor matters."""
    codec = HeartCodec(CodecConfig(**SIZES, student_steps=STEPS))
    with torch.no_grad():
        for module in codec.modules():
            for name, parameter in module.named_parameters(recurse=False):
                wide = parameter.ndim > 1 and name != "scale_shift_table"
                scale = parameter[0].numel() ** -0.5 if wide else 0.3
                offset = 1.0 if name == "weight" and not wide else 0.0  # norms and PReLU
                parameter.copy_(offset + scale * torch.randn(parameter.shape, generator=generator))
        for layer in codec.flow_matching.vq_embed.layers:
            embed = layer._codebook.embed
            embed.copy_(torch.randn(embed.shape, generator=generator))
            layer._codebook.initted.fill_(True)
    return codec


def as_teacher(student: HeartCodec, generator: torch.Generator) -> HeartCodec:
    """Other attention in the second stack, and no intervals."""
    teacher = HeartCodec(CodecConfig(**SIZES))
    tensors = student.state_dict()
    with torch.no_grad():
        for name, tensor in teacher.state_dict().items():
            changed = "transformer_blocks_2" in name and "attn" in name
            tensor.copy_(torch.randn(tensor.shape, generator=generator) if changed else tensors[name])
    return teacher


def latents(codec: HeartCodec, codes: Tensor, noise: Tensor, context: Tensor, steps: int) -> Tensor:
    """[2 T, C]."""
    mu = codec.flow_matching.condition(codes)
    return sample_student(codec.flow_matching.estimator, mu, noise, context, steps)


def main(folder: Path) -> None:
    """Writes the case."""
    generator = torch.Generator().manual_seed(13)
    codec = make_codec(generator)
    save_codec(as_teacher(codec, generator), folder / BASE, torch.bfloat16)
    save_codec(codec, folder / FULL, torch.bfloat16)
    save_codec(codec, folder / PART, torch.bfloat16, base=folder / BASE)
    codec = load_codec(folder / FULL)
    channels = codec.config.out_channels
    codes = torch.randint(SIZES["codebook_size"], (CODES, NUM_QUANTIZERS), generator=generator)
    noise = torch.randn(2 * CODES, channels, generator=generator)
    context = 0.5 * torch.randn(CONTEXT, channels, generator=generator)
    tensors = {"codes": codes, "noise": noise, "context": context}
    with torch.no_grad():
        for steps in STEPS:
            tensors[f"latents_{steps}"] = latents(codec, codes, noise, context, steps)
            tensors[f"latents_{steps}_without_context"] = latents(codec, codes, noise, context[:0], steps)
    write_file(folder / "student.safetensors", {name: tensor.contiguous() for name, tensor in tensors.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
