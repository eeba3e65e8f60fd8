"""The configurations that the kit ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from torch import nn

from heartmula_train.codec.config import SAMPLE_RATE, SAMPLES_PER_CODE, CodecConfig
from heartmula_train.codec.heartcodec import FlowMatching
from heartmula_train.codec.velocity_transformer import VelocityTransformer
from heartmula_train.codec.wave_decoder import WaveDecoder
from heartmula_train.drafters.modules import FrameDrafter, MedusaHeads, MicroDepthDecoder
from heartmula_train.lm.config import LmConfig
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.music.lyrics import WORDS
from heartmula_train.music.plan import draw_plan
from heartmula_train.music.vocabulary import VOCABULARY
from heartmula_train.song.checkpoint import CODEC_FOLDER, lm_folder, read_json
from heartmula_train.stages.config import read_config, read_drafter_config, read_student_config
from heartmula_train.stages.flow_student import check_settings
from heartmula_train.stages.language_model import make_tokenizer, make_vocabulary
from heartmula_train.stages.loop import freeze_parts

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
    assert make_vocabulary(gpu) == read_json(DEMO / VOCABULARY)


@pytest.mark.parametrize("name", ["demo.toml", "demo_gpu.toml"])
def test_vocabulary_is_that_of_the_songs(name: str) -> None:
    """What songs are drawn from is in it; lines last as long as it says."""
    known = make_vocabulary(read_config(CONFIGS / name))
    seen = set()
    for index in range(200):
        plan = draw_plan(5, index, known["seconds"][0], known["seconds"][1], known["words"])
        tags = plan.tags.split(",")
        assert set(tags) <= set(known["tags"])
        assert len(tags) <= known["most_tags"]
        assert all(len(set(tags) & set(group)) == 1 for group in known["one_of"])
        assert all(section.name in known["sections"] for section in plan.sections)
        assert {word for section in plan.sections for line in section.lines for word in line.text.split()} <= set(
            known["words"]
        )
        seconds = plan.line_beats * plan.beat_samples / SAMPLE_RATE
        assert seconds in [pytest.approx(end) for end in known["seconds_per_line"][plan.tempo]]
        assert plan.codes * SAMPLES_PER_CODE / SAMPLE_RATE <= known["seconds"][1] + 1
        seen.update(tags)
    assert seen == set(known["tags"])
    assert set(WORDS) <= set(known["words"])


def test_students_are_of_the_sizes_that_their_configurations_count_on() -> None:
    """The demo's changes fit beside the demo into 30 MB; the released student has the numbers that the page counts."""
    sizes = read_config(CONFIGS / "demo.toml").codec
    demo = read_student_config(CONFIGS / "demo_student.toml", sizes)
    on_gpu = read_student_config(CONFIGS / "demo_student_gpu.toml", sizes)
    assert on_gpu.flow_student.frozen == demo.flow_student.frozen
    with torch.device("meta"):
        estimator = VelocityTransformer(demo.codec)
        freeze_parts(estimator, demo.flow_student.frozen, "the demo")
        released = read_student_config(CONFIGS / "student.toml", CodecConfig())
        numbers = sum(p.numel() for p in VelocityTransformer(released.codec).parameters())
    changed = sum(p.numel() for p in estimator.parameters() if p.requires_grad)
    assert changed * BF16_BYTES <= 5.7e6
    assert numbers == 1_501_085_184
    for config in (demo, on_gpu, released):
        check_settings(config.flow_student)


def test_drafters_are_of_the_sizes_that_readme_counts_on() -> None:
    """All of the demo's in 3 MB; those of the 3B have the numbers that the README counts with; crops fit."""
    demo, large = (read_drafter_config(CONFIGS / name) for name in ("demo_drafter.toml", "drafter_3b.toml"))
    numbers = {}
    for config, width, codes in ((demo, 256, 261), (large, 3072, 8197)):
        with torch.device("meta"):
            parts = [MicroDepthDecoder(width, codes, config.depth), FrameDrafter(width, config.frame)]
            parts.append(MedusaHeads(width, config.medusa.heads))
        numbers[width] = [sum(p.numel() for p in part.parameters()) for part in parts]
        assert config.frame_drafter.crop_frames <= config.frame.max_seq_len
        assert config.multi_token.heads == config.medusa.heads
    assert sum(numbers[256]) * BF16_BYTES < 3e6, numbers
    assert numbers[3072] == [139_535_360, 31_460_352, 28_311_552]
    assert all(t.minutes <= 20 for t in (demo.micro_depth, demo.frame_drafter, demo.medusa, demo.multi_token))


def test_two_ways_to_train_a_language_model_are_refused(tmp_path: Path) -> None:
    both = (CONFIGS / "demo_gpu.toml").read_text(encoding="utf-8")
    (tmp_path / "both.toml").write_text(both + "\n[language_model]\nsteps = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="one of them says"):
        read_config(tmp_path / "both.toml")
