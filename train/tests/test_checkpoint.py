"""The official layout is written as it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import TINY
from safetensors import safe_open

from heartmula_train.song.checkpoint import (
    CODEC_FOLDER,
    WEIGHTS_NAME,
    lm_folder,
    load_codec,
    load_lm,
    load_weights,
    read_tensors,
    save_codec,
    save_lm,
    stored_tensors,
)


def _names(path: Path) -> set[str]:
    with safe_open(path, "numpy") as file:
        return set(file.keys())


def test_names_are_the_official_ones(tmp_path: Path) -> None:
    codec, lm = load_codec(TINY / CODEC_FOLDER), load_lm(TINY / lm_folder())
    save_codec(codec, tmp_path / "codec", torch.float32)
    save_lm(lm, tmp_path / "lm", torch.float32)
    official = {name for name in _names(TINY / CODEC_FOLDER / WEIGHTS_NAME) if "scalar_model.encoder." not in name}
    assert _names(tmp_path / "codec" / WEIGHTS_NAME) == official
    assert _names(tmp_path / "lm" / WEIGHTS_NAME) == _names(TINY / lm_folder() / WEIGHTS_NAME)


@pytest.mark.parametrize("shard_bytes", [None, 100_000])
def test_saved_models_are_loaded_unchanged(tmp_path: Path, shard_bytes: int | None) -> None:
    lm, codec = load_lm(TINY / lm_folder()), load_codec(TINY / CODEC_FOLDER)
    save_lm(lm, tmp_path / "lm", torch.float32, shard_bytes)
    save_codec(codec, tmp_path / "codec", torch.float32, shard_bytes)
    assert (len(list((tmp_path / "lm").glob("*.safetensors"))) > 1) == (shard_bytes is not None)
    for before, after in ((lm, load_lm(tmp_path / "lm")), (codec, load_codec(tmp_path / "codec"))):
        assert before.config == after.config
        for name, tensor in before.state_dict().items():
            assert torch.equal(tensor, after.state_dict()[name]), name


def test_bf16_is_rounded_once(tmp_path: Path) -> None:
    lm = load_lm(TINY / lm_folder())
    save_lm(lm, tmp_path, torch.bfloat16)
    for name, tensor in load_lm(tmp_path).state_dict().items():
        assert torch.equal(tensor, lm.state_dict()[name].bfloat16().float()), name


def test_older_weight_norm_names_are_aliases() -> None:
    codec = load_codec(TINY / CODEC_FOLDER)
    tensors = {}
    for name, tensor in read_tensors(TINY / CODEC_FOLDER).items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        tensors[name.replace("parametrizations.weight.original1", "weight_v")] = tensor
    load_weights(codec, tensors, TINY)


@pytest.mark.parametrize(("change", "message"), [("missing", "are missing"), ("shape", "but the config says")])
def test_broken_checkpoint_is_refused(change: str, message: str) -> None:
    lm = load_lm(TINY / lm_folder())
    tensors = stored_tensors(lm, torch.float32)
    if change == "missing":
        del tensors["projection.weight"]
    else:
        tensors["projection.weight"] = tensors["projection.weight"][:-1]
    with pytest.raises(ValueError, match=message):
        load_weights(lm, tensors, Path("somewhere"))
