"""Velocities, latents, levels and samples against the recorded reference."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison import distance
from safetensors.numpy import load_file

from heartmula_train.codec.heartcodec import HeartCodec
from heartmula_train.codec.wave_decoder import round_to_levels
from heartmula_train.codec.windows import join_windows, plan_windows
from heartmula_train.song.checkpoint import CODEC_FOLDER, load_codec

CASES = ("short", "one", "two", "three", "lost", "noguide")
BLOCK = 4800
EDGE = 1e-5  # of RMS: a latent this near to an edge may become either level
CROSSFADE_BEGIN = 1_224_000


@lru_cache
def _recorded(golden: Path) -> dict[str, np.ndarray]:
    return load_file(golden / "golden_codec.safetensors")


@lru_cache
def _codec(golden: Path) -> HeartCodec:
    return load_codec(golden / CODEC_FOLDER)


def _latents(recorded: dict[str, np.ndarray], case: str) -> list[np.ndarray]:
    """[744, left | right] of each window."""
    count = sum(name.startswith(f"{case}.segment") and name.endswith(".latent") for name in recorded)
    stored = [recorded[f"{case}.segment{window}.latent"] for window in range(count)]
    return [np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T) for x in stored]


@torch.no_grad()
def test_velocity(golden: Path) -> None:
    recorded = _recorded(golden)
    for step in (0, 7):
        h = torch.from_numpy(recorded[f"short.step{step}.estimator_in"])
        t = torch.from_numpy(recorded[f"short.step{step}.t"])
        found = distance(
            _codec(golden).flow_matching.estimator(h, t).numpy(), recorded[f"short.step{step}.estimator_out"]
        )
        print(f"{golden.name} step {step}: velocity {found}")
        assert found.rms <= 1e-5
        assert found.greatest <= 5e-5


@pytest.mark.parametrize("case", CASES)
def test_latents_and_levels(golden: Path, case: str) -> None:
    recorded = _recorded(golden)
    steps, guidance = recorded[f"{case}.settings"].tolist()
    actual = _codec(golden).latents(
        torch.from_numpy(recorded[f"{case}.codes"].T),
        lambda window: torch.from_numpy(recorded[f"{case}.segment{window}.noise"][0]),
        int(steps),
        guidance,
        compat=True,
    )
    expected = _latents(recorded, case)
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        found = distance(ours.numpy(), theirs)
        print(f"{golden.name} {case}: latents {found}")
        assert found.rms <= 5e-6
        changed = round_to_levels(ours) != round_to_levels(torch.from_numpy(theirs))
        ninths = 9.0 * theirs.astype(np.float64)
        to_edge = np.abs(ninths - np.floor(ninths) - 0.5) / 9.0
        assert (to_edge[changed.numpy()] <= EDGE * np.sqrt(np.mean(theirs.astype(np.float64) ** 2))).all()


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_samples_from_recorded_latents(golden: Path, case: str) -> None:
    recorded = _recorded(golden)
    latents = _latents(recorded, case)
    plan = plan_windows(recorded[f"{case}.codes"].shape[1], compat=True)
    assert plan.windows == len(latents)
    waves = [_codec(golden).scalar_model.decode(torch.from_numpy(x)).numpy() for x in latents]
    song = join_windows(waves, plan.samples)
    assert song.shape[1] == int(recorded[f"{case}.length"][0])
    parts = {"wav": song, "wav_head": song[:, :9600], "wav_tail": song[:, -9600:]}
    parts["wav_crossfade"] = song[:, CROSSFADE_BEGIN : CROSSFADE_BEGIN + 9600]
    compared = 0
    for part, samples in parts.items():
        if f"{case}.{part}" in recorded:
            found = distance(samples, recorded[f"{case}.{part}"])
            print(f"{golden.name} {case} {part}: {found}")
            assert found.rms <= 1e-5
            assert found.greatest <= 5e-5
            compared += 1
    assert compared > 0
    if f"{case}.wav_block_rms" in recorded:
        whole = song[:, : song.shape[1] // BLOCK * BLOCK].reshape(2, -1, BLOCK).astype(np.float64)
        scale = np.sqrt(np.mean(whole**2))
        assert np.abs(whole.mean(-1) - recorded[f"{case}.wav_block_mean"]).max() <= 1e-5 * scale
        assert np.abs(np.sqrt((whole**2).mean(-1)) - recorded[f"{case}.wav_block_rms"]).max() <= 1e-5 * scale
