"""The configurations that the kit ships."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from heartmula_train.codec.heartcodec import FlowMatching
from heartmula_train.codec.wave_decoder import WaveDecoder
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.stages.config import read_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
BF16_BYTES = 2


def _megabytes(module: nn.Module) -> float:
    return sum(tensor.numel() for tensor in module.state_dict().values()) * BF16_BYTES / 1e6


@pytest.mark.parametrize("name", ["demo.toml", "demo_gpu.toml"])
def test_demo_fits_into_24_megabytes(name: str) -> None:
    config = read_config(CONFIGS / name)
    sizes = [_megabytes(part) for part in (WaveDecoder(config.codec), FlowMatching(config.codec), HeartMuLa(config.lm))]
    print(name, [round(size, 2) for size in sizes])
    assert all(size <= most for size, most in zip(sizes, (3, 9.2, 12), strict=True)), sizes
    assert sum(sizes) <= 23.5


def test_stages_keep_to_their_budgets() -> None:
    """Autoencoder 40 minutes, RVQ 5, flow 30, language model 45 on two cores; 15 minutes in all on a GPU."""
    cpu, gpu = (read_config(CONFIGS / name) for name in ("demo.toml", "demo_gpu.toml"))
    minutes = [[c.autoencoder.minutes, c.rvq.minutes, c.flow.minutes, c.language_model.minutes] for c in (cpu, gpu)]
    assert all(m <= most for m, most in zip(minutes[0], (40, 5, 30, 45), strict=True))
    assert sum(minutes[1]) <= 15
    assert (cpu.codec, cpu.lm) == (gpu.codec, gpu.lm)
