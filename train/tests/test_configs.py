"""The configurations that the kit ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from torch import nn

from heartmula_train.codec.config import CodecConfig
from heartmula_train.codec.heartcodec import FlowMatching
from heartmula_train.codec.velocity_transformer import VelocityTransformer
from heartmula_train.codec.wave_decoder import WaveDecoder
from heartmula_train.lm.config import LmConfig
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.song.checkpoint import CODEC_FOLDER, lm_folder, read_json
from heartmula_train.stages.config import read_config, read_student_config
from heartmula_train.stages.flow_student import check_settings, freeze
from heartmula_train.stages.language_model import make_tokenizer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DEMO = REPOSITORY / "demo"
BF16_BYTES = 2


def _megabytes(module: nn.Module) -> float:
    return sum(tensor.numel() for tensor in module.state_dict().values()) * BF16_BYTES / 1e6


@pytest.mark.parametrize("name", ["demo.toml", "demo_gpu.toml", "codec2.toml"])
def test_demo_fits_into_24_megabytes(name: str) -> None:
    config = read_config(CONFIGS / name)
    sizes = [_megabytes(part) for part in (WaveDecoder(config.codec), FlowMatching(config.codec), HeartMuLa(config.lm))]
    print(name, [round(size, 2) for size in sizes])
    assert all(size <= most for size, most in zip(sizes, (3, 9.2, 12), strict=True)), sizes
    assert sum(sizes) <= 23.9


def test_stages_keep_to_their_budgets() -> None:
    """Autoencoder 40 minutes, RVQ 5, flow 30, language model 45 on two cores; 15 minutes in all on a GPU."""
    cpu, gpu = (read_config(CONFIGS / name) for name in ("demo.toml", "demo_gpu.toml"))
    minutes = [[c.autoencoder.minutes, c.rvq.minutes, c.flow.minutes, c.language_model.minutes] for c in (cpu, gpu)]
    assert all(m <= most for m, most in zip(minutes[0], (40, 5, 30, 45), strict=True))
    assert sum(minutes[1]) <= 15
    assert cpu.codec == gpu.codec


def test_demo_is_what_its_configurations_make() -> None:
    """Its codec by demo.toml, its language model by demo_gpu.toml."""
    cpu, gpu = (read_config(CONFIGS / name) for name in ("demo.toml", "demo_gpu.toml"))
    assert CodecConfig.from_json(read_json(DEMO / CODEC_FOLDER / "config.json")) == cpu.codec
    assert LmConfig.from_json(read_json(DEMO / lm_folder() / "config.json")) == gpu.lm
    assert json.loads(make_tokenizer(gpu).to_str()) == read_json(DEMO / "tokenizer.json")


def test_students_are_of_the_sizes_that_their_configurations_count_on() -> None:
    """The demo's changes fit beside the demo into 30 MB; the released student has the numbers that the page counts."""
    demo = read_student_config(CONFIGS / "demo_student.toml", read_config(CONFIGS / "demo.toml").codec)
    with torch.device("meta"):
        estimator = VelocityTransformer(demo.codec)
        freeze(estimator, demo.flow_student.frozen)
        released = read_student_config(CONFIGS / "student.toml", CodecConfig())
        numbers = sum(p.numel() for p in VelocityTransformer(released.codec).parameters())
    changed = sum(p.numel() for p in estimator.parameters() if p.requires_grad)
    assert changed * BF16_BYTES <= 5.7e6
    assert numbers == 1_501_085_184
    for config in (demo, released):
        check_settings(config.flow_student)


def test_two_ways_to_train_a_language_model_are_refused(tmp_path: Path) -> None:
    both = (CONFIGS / "demo_gpu.toml").read_text(encoding="utf-8")
    (tmp_path / "both.toml").write_text(both + "\n[language_model]\nsteps = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="one of them says"):
        read_config(tmp_path / "both.toml")
