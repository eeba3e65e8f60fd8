"""Checkpoints in the official layout: read and written."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from heartmula_train.codec.config import CodecConfig
from heartmula_train.codec.heartcodec import HeartCodec
from heartmula_train.lm.config import LmConfig
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.text.prompt import GenConfig

CODEC_FOLDER = "HeartCodec-oss"
INDEX_NAME = "model.safetensors.index.json"
WEIGHTS_NAME = "model.safetensors"
_NOT_NEEDED = ("scalar_model.encoder.",)


def lm_folder(version: str = "3B") -> str:
    """Folder of the language model of a version."""
    return f"HeartMuLa-oss-{version}"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; errors name the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: {error}") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes an indented JSON object."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of one file, or of the shards that an index names."""
    if not (folder / INDEX_NAME).exists():
        return load_file(folder / WEIGHTS_NAME)
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(read_json(folder / INDEX_NAME)["weight_map"].values())):
        tensors.update(load_file(folder / name))
    return tensors


def write_file(path: Path, tensors: dict[str, Tensor]) -> None:
    """One safetensors file, readable by everybody (save_file leaves it to its owner)."""
    save_file(tensors, path, {"format": "pt"})
    path.chmod(0o644)


def write_tensors(folder: Path, tensors: dict[str, Tensor], shard_bytes: int | None = None) -> None:
    """One file, or shards of at most `shard_bytes` (but never less than a tensor) with an index."""
    if shard_bytes is None:
        write_file(folder / WEIGHTS_NAME, tensors)
        return
    shards: list[dict[str, Tensor]] = [{}]
    held = 0
    for name, tensor in tensors.items():
        if shards[-1] and held + tensor.nbytes > shard_bytes:
            shards.append({})
            held = 0
        shards[-1][name] = tensor
        held += tensor.nbytes
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        write_file(folder / name, shard)
    weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})


def load_weights(module: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Into a module of float32, every tensor of the module required; weight_g / weight_v are known as aliases."""
    renamed = {_official_name(name): tensor for name, tensor in tensors.items()}
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - renamed.keys())
    if missing:
        raise ValueError(f"{source}: {len(missing)} tensors are missing: {', '.join(missing[:5])}")
    unknown = sorted(name for name in renamed.keys() - wanted.keys() if not name.startswith(_NOT_NEEDED))
    if unknown:
        raise ValueError(f"{source}: {len(unknown)} tensors belong to no part: {', '.join(unknown[:5])}")
    for name, tensor in wanted.items():
        if renamed[name].shape != tensor.shape:
            found = list(renamed[name].shape)
            raise ValueError(f"{source}: {name} is {found}, but the config says {list(tensor.shape)}")
    module.load_state_dict({name: renamed[name].to(tensor.dtype) for name, tensor in wanted.items()})


def _official_name(name: str) -> str:
    for alias, official in (("weight_g", "original0"), ("weight_v", "original1")):
        if name.endswith("." + alias):
            return f"{name.removesuffix(alias)}parametrizations.weight.{official}"
    return name


def stored_tensors(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The module's tensors as a checkpoint stores them: floating point ones as `dtype`."""
    stored = {}
    for name, tensor in module.state_dict().items():
        tensor = tensor.detach().cpu()
        stored[name] = (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous().clone()
    return stored


def load_lm(folder: Path) -> HeartMuLa:
    """From HeartMuLa-oss-*/, as float32."""
    model = HeartMuLa(LmConfig.from_json(read_json(folder / "config.json")))
    load_weights(model, read_tensors(folder), folder)
    return model.eval()


def load_codec(folder: Path) -> HeartCodec:
    """From HeartCodec-oss/, as float32; of a student's folder with a base, what it does not hold is the base's."""
    content = read_json(folder / "config.json")
    model = HeartCodec(CodecConfig.from_json(content))
    tensors = read_tensors(folder)
    if base := content.get("student", {}).get("base"):
        tensors = {**read_tensors(folder / base), **tensors}
    load_weights(model, tensors, folder)
    return model.eval()


_DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def save_lm(model: HeartMuLa, folder: Path, dtype: torch.dtype, shard_bytes: int | None = None) -> None:
    """Writes HeartMuLa-oss-*/."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", model.config.to_json(_DTYPE_NAMES[dtype]))
    write_tensors(folder, stored_tensors(model, dtype), shard_bytes)


def save_codec(
    model: HeartCodec, folder: Path, dtype: torch.dtype, shard_bytes: int | None = None, base: Path | None = None
) -> None:
    """Writes HeartCodec-oss/; of a student with a `base`, the codec's folder that it was made from, only what differs.

    The two folders must keep their places to each other.
    """
    content = model.config.to_json(_DTYPE_NAMES[dtype])
    tensors = stored_tensors(model, dtype)
    if base is not None:
        content["student"]["base"] = Path(os.path.relpath(base, folder)).as_posix()
        theirs = read_tensors(base)
        tensors = {
            name: tensor
            for name, tensor in tensors.items()
            if name not in theirs or not torch.equal(tensor.float(), theirs[name].float())
        }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", content)
    write_tensors(folder, tensors, shard_bytes)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that makes songs."""

    lm: HeartMuLa
    codec: HeartCodec
    tokenizer: Tokenizer
    gen_config: GenConfig


def load_checkpoint(folder: Path, version: str = "3B") -> Checkpoint:
    """The whole folder."""
    return Checkpoint(
        lm=load_lm(folder / lm_folder(version)),
        codec=load_codec(folder / CODEC_FOLDER),
        tokenizer=Tokenizer.from_file(str(folder / "tokenizer.json")),
        gen_config=GenConfig(**read_json(folder / "gen_config.json")),
    )


def save_checkpoint(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype, version: str = "3B") -> None:
    """The whole folder, both models stored as `dtype`."""
    save_lm(checkpoint.lm, folder / lm_folder(version), dtype)
    save_codec(checkpoint.codec, folder / CODEC_FOLDER, dtype)
    checkpoint.tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "gen_config.json", checkpoint.gen_config.to_json())
