"""The student that the C++ program is compared with: its file is what the kit computes, by a plainly written loop."""

from __future__ import annotations

import pytest
import torch
from conftest import REPOSITORY
from make_student_case import BASE, CONTEXT, FULL, PART, STEPS, latents
from safetensors.torch import load_file
from torch import Tensor

from heartmula_train.codec.heartcodec import HeartCodec
from heartmula_train.song.checkpoint import load_codec, read_tensors

CASE = REPOSITORY / "tests" / "golden" / "data" / "student1"


def _plain_latents(codec: HeartCodec, codes: Tensor, noise: Tensor, context: Tensor, steps: int) -> Tensor:
    """As codec_speed.md writes it."""
    mu = codec.flow_matching.condition(codes)
    inc = torch.zeros_like(noise)
    inc[:CONTEXT] = context
    x = noise.clone()
    for k in range(steps):
        s, t = k / steps, (k + 1) / steps
        x[:CONTEXT] = (1 - (1 - 1e-6) * s) * noise[:CONTEXT] + s * context
        h = torch.cat((x, inc, mu), dim=1)[None]
        x = x + (t - s) * codec.flow_matching.estimator(h, torch.tensor([s]), torch.tensor([t - s]))[0]
    x[:CONTEXT] = context
    return x


@torch.no_grad()
@pytest.mark.parametrize("folder", [FULL, PART])
def test_latents_are_the_recorded_ones(folder: str) -> None:
    codec, recorded = load_codec(CASE / folder), load_file(CASE / "student.safetensors")
    codes, noise, context = (recorded[name] for name in ("codes", "noise", "context"))
    for steps in STEPS:
        expected = recorded[f"latents_{steps}"]
        for actual in (latents, _plain_latents):
            assert torch.allclose(actual(codec, codes, noise, context, steps), expected, atol=1e-5)
        without = latents(codec, codes, noise, context[:0], steps)
        assert torch.allclose(without, recorded[f"latents_{steps}_without_context"], atol=1e-5)


def test_part_holds_what_differs() -> None:
    full, part, base = (read_tensors(CASE / folder) for folder in (FULL, PART, BASE))
    assert full.keys() == {**base, **part}.keys()
    assert any("interval_embedder" in name for name in part)
    assert all(name not in base or not torch.equal(base[name], tensor) for name, tensor in part.items())
