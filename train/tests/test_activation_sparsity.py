"""Two-of-four pruning: what is kept, counted, and sampled with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from conftest import TINY

from heartmula_train.evaluation.activation_sparsity import LayerCounts, counted, pruned, two_of_four
from heartmula_train.evaluation.kit_songs import KitSongs, song_nats
from heartmula_train.evaluation.program import Sampling, read_codes
from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.song.checkpoint import lm_folder, load_checkpoint, load_lm
from heartmula_train.stages.language_model import Example
from heartmula_train.text.prompt import Prompt


def test_the_greatest_two_of_each_four_are_kept() -> None:
    hidden = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1))
    kept = two_of_four(hidden)
    for before, after in zip(hidden.reshape(-1, 4).tolist(), kept.reshape(-1, 4).tolist(), strict=True):
        greatest = sorted(before, key=abs)[2:]
        assert after == [value if value in greatest else 0.0 for value in before]
    assert torch.equal(two_of_four(kept), kept)


def test_counts_of_a_row() -> None:
    counts = LayerCounts()
    counts.add(torch.tensor([[10.0, 0.05, -0.5, 0.0, 2.0, 2.0, -2.0, 2.0]]))
    assert counts.shares() == {
        "below_0.01_of_rms": 0.125,  # rms 3.8
        "below_0.1_of_rms": 0.25,
        "below_0.01_of_greatest": 0.25,
        "below_0.1_of_greatest": 0.375,
        "energy_dropped": pytest.approx(8.0025 / 116.2525, abs=1e-4),
    }


def test_a_model_is_pruned_inside_only() -> None:
    torch.manual_seed(1)
    model = load_lm(TINY / lm_folder()).requires_grad_(False)
    example = Example(Prompt([1, 2, 3], 1), torch.randint(8, (6, CODEBOOKS)))
    whole = song_nats(model, example)
    with pruned(model, ("decoder",)):
        depth = song_nats(model, example)
    with pruned(model), counted(model) as counts:
        both = song_nats(model, example)
    assert depth[0] == whole[0] and bool((depth[1:] != whole[1:]).any())
    assert both[0] != whole[0]
    assert torch.equal(song_nats(model, example), whole)
    assert all(of.shares()["energy_dropped"] == 0.0 for of in counts.values()), "what was pruned already"


@pytest.mark.skipif("HEARTMULA" not in os.environ, reason="HEARTMULA names no program")
def test_songs_of_the_kit(tmp_path: Path) -> None:
    program = KitSongs(os.environ["HEARTMULA"], checkpoint=load_checkpoint(TINY))
    codes = tmp_path / "codes.safetensors"
    song = program.generate(TINY, ("fast", "la"), tmp_path / "song.wav", 1, 800, Sampling(topk=5), codes)["result"]
    assert len(read_codes(codes)) == song["frames"] <= 11
    assert song["stop_reason"] == ("eos" if song["frames"] < 11 else "max_length")
