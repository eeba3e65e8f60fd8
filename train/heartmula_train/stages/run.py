"""The stages of a run, in order; each finds the weights of those before it in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

from heartmula_train.codec.heartcodec import FlowMatching, HeartCodec
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.music.vocabulary import VOCABULARY
from heartmula_train.song.checkpoint import (
    CODEC_FOLDER,
    Checkpoint,
    lm_folder,
    load_codec,
    load_lm,
    load_weights,
    save_checkpoint,
    save_codec,
    stored_tensors,
    write_file,
    write_json,
)
from heartmula_train.stages.autoencoder import AutoencoderTask, WaveAutoencoder
from heartmula_train.stages.config import Config, GpuLanguageModel, Music, read_config, read_student_config
from heartmula_train.stages.flow import FlowTask
from heartmula_train.stages.flow_student import FlowStudentTask, student_of
from heartmula_train.stages.gpu.train import train_on_gpu
from heartmula_train.stages.language_model import LanguageModelTask, make_tokenizer, make_vocabulary
from heartmula_train.stages.loop import FINAL, LAST, train
from heartmula_train.stages.rvq import FeatureQuantizer, RvqTask
from heartmula_train.stages.trajectories import codes_of_files, codes_of_music
from heartmula_train.text.byte_level import special_ids

TOKENIZER = "tokenizer.json"
# Beside an exported checkpoint, what no song needs: what makes codes and latents of music.
QUANTIZER, ENCODER = "quantizer.safetensors", "encoder.safetensors"
START = "start.pt"
CODEC = "codec"
STUDENT = "flow_student"
Figures = dict[str, float]


def train_autoencoder(config: Config, run: Path, device: torch.device) -> Figures:
    """Wave encoder and decoder."""
    return train(AutoencoderTask(config), config.autoencoder, run / "autoencoder", config.seed, device)


def train_rvq(config: Config, run: Path, device: torch.device) -> Figures:
    """Residual VQ; needs no other stage."""
    task = RvqTask(config)
    if not any((run / "rvq" / name).exists() for name in (LAST, FINAL)):
        task.start()
    return train(task, config.rvq, run / "rvq", config.seed, device)


def train_flow(config: Config, run: Path, device: torch.device) -> Figures:
    """Velocity transformer; needs autoencoder and rvq."""
    task = FlowTask(config, load_autoencoder(config, run).to(device), load_quantizer(config, run).to(device))
    return train(task, config.flow, run / "flow", config.seed, device)


def train_language_model(config: Config, run: Path, device: torch.device) -> Figures:
    """Tokenizer, backbone and depth decoder; needs rvq."""
    folder = run / "language_model"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / TOKENIZER).exists():
        make_tokenizer(config).save(str(folder / TOKENIZER))
    tokenizer, start = load_tokenizer(run), None
    if len(tokenizer.get_vocab()) > config.lm.text_vocab_size:
        raise ValueError(
            f"text_vocab_size is {config.lm.text_vocab_size}, but the tokenizer has {len(tokenizer.get_vocab())} tokens"
        )
    if (folder / START).exists():
        start = torch.load(folder / START, map_location="cpu", weights_only=True)
    if isinstance(config.language_model, GpuLanguageModel):
        return train_on_gpu(config, load_quantizer(config, run).eval(), tokenizer, folder, device, start)
    task = LanguageModelTask(config, load_quantizer(config, run).to(device), tokenizer)
    if start is not None:
        task.module.load_state_dict(start)
    return train(task, config.language_model, folder, config.seed, device)


def train_flow_student(config: Path, origin: Path, run: Path, device: torch.device) -> Figures:
    """A student of the flow of `origin`, a checkpoint's folder or a run; of a checkpoint, codec and quantizer do."""
    teacher = load_teacher(config, origin).to(device)
    settings = read_student_config(config, teacher.config)
    if settings.flow_student.codes == "music":
        exported = (origin / QUANTIZER).exists()
        quantizer = exported_quantizer(settings, origin) if exported else load_quantizer(settings, origin)
        codes = codes_of_music(settings, quantizer)
    else:
        codes = codes_of_files(settings.flow_student.codes, settings.flow_student.validation_songs)
    task = FlowStudentTask(settings, teacher, codes, run / STUDENT / "solutions")
    if not (run / STUDENT / FINAL).exists():
        task.prepare()
    return train(task, settings.flow_student, run / STUDENT, settings.seed, device)


def load_teacher(config: Path, origin: Path) -> HeartCodec:
    """The codec of a checkpoint, or of a run, whose sizes the configuration says."""
    if (origin / CODEC_FOLDER).exists():
        return load_codec(origin / CODEC_FOLDER)
    return assemble_codec(read_config(config), origin)


def export_student(config: Path, origin: Path, run: Path, out: Path, dtype: torch.dtype, whole: bool = True) -> None:
    """Writes a codec's folder: all of the student, or only what differs from its teacher's folder in `origin`."""
    teacher = load_teacher(config, origin)
    settings = read_student_config(config, teacher.config)
    student = student_of(teacher, settings.flow_student.student_steps)
    _load(student.flow_matching.estimator, run / STUDENT)
    base = None if whole else origin / CODEC_FOLDER
    if base and not base.exists():
        raise FileNotFoundError(f"{base}: a student that leaves out its teacher's tensors needs the teacher's folder")
    save_codec(student, out, dtype, base=base)


def start_from(config: Config, checkpoint: Path, run: Path, take: str = "all") -> None:
    """A new run that takes over of an exported checkpoint: "all", so that its language model goes on; the "codec", for
    a language model from nothing; or the "autoencoder" alone, for other codes.

    If the encoder was kept, stage autoencoder is finished in each case, and the flow may be trained anew.
    """
    if any((run / stage).exists() for stage in STAGES):
        raise ValueError(f"{run}: this run has begun already")
    if (checkpoint / ENCODER).exists():
        autoencoder = _exported_autoencoder(config, checkpoint)
        (run / "autoencoder").mkdir(parents=True)
        torch.save(autoencoder.state_dict(), run / "autoencoder" / FINAL)
    elif take == "autoencoder":
        raise FileNotFoundError(f"{checkpoint / ENCODER}: this checkpoint was exported without its encoder")
    if take == "autoencoder":
        return
    quantizer = exported_quantizer(config, checkpoint)
    (run / "rvq").mkdir(parents=True)
    torch.save(quantizer.state_dict(), run / "rvq" / FINAL)
    shutil.copytree(checkpoint / CODEC_FOLDER, run / CODEC)
    if take == "codec":
        return
    (run / "language_model").mkdir()
    shutil.copy(checkpoint / TOKENIZER, run / "language_model" / TOKENIZER)
    torch.save(load_lm(checkpoint / lm_folder()).state_dict(), run / "language_model" / START)


TAKE = ("all", "codec", "autoencoder")
STAGES: dict[str, Callable[[Config, Path, torch.device], Figures]] = {
    "autoencoder": train_autoencoder,
    "rvq": train_rvq,
    "flow": train_flow,
    "language_model": train_language_model,
}


def load_autoencoder(config: Config, run: Path) -> WaveAutoencoder:
    """As stage `autoencoder` left it."""
    return _load(WaveAutoencoder(config.codec, config.autoencoder.encoder_width), run / "autoencoder")


def load_quantizer(config: Music, run: Path) -> FeatureQuantizer:
    """As stage `rvq` left it."""
    return _load(FeatureQuantizer(config.codec), run / "rvq")


def exported_quantizer(config: Music, checkpoint: Path) -> FeatureQuantizer:
    """As `export` wrote it beside a checkpoint."""
    return _exported(FeatureQuantizer(config.codec), checkpoint / QUANTIZER)


def load_tokenizer(run: Path) -> Tokenizer:
    """As stage `language_model` made it."""
    return Tokenizer.from_file(str(run / "language_model" / TOKENIZER))


def assemble_codec(config: Config, run: Path) -> HeartCodec:
    """Stages autoencoder, rvq and flow in the codec that a checkpoint ships, or the one that the run started with."""
    if (run / CODEC).exists() and not (run / "flow").exists():
        return load_codec(run / CODEC)
    codec = HeartCodec(config.codec)
    codec.flow_matching = _load(FlowMatching(config.codec), run / "flow")
    codec.scalar_model.decoder = load_autoencoder(config, run).decoder
    return codec.eval()


def assemble(config: Config, run: Path) -> Checkpoint:
    """All four stages in the models that a checkpoint ships."""
    codec = assemble_codec(config, run)
    tokenizer = load_tokenizer(run)
    lm = _load(HeartMuLa(config.lm), run / "language_model")
    return Checkpoint(lm.eval(), codec, tokenizer, special_ids(tokenizer, config.audio_eos_id))


def export(config: Config, run: Path, out: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes the official layout, and beside it vocabulary, quantizer and, if the run has one, the wave encoder.

    The latter two are in float32.
    """
    save_checkpoint(assemble(config, run), out, dtype)
    write_json(out / VOCABULARY, make_vocabulary(config))
    write_file(out / QUANTIZER, stored_tensors(load_quantizer(config, run), torch.float32))
    (out / ENCODER).unlink(missing_ok=True)  # of another run
    if (run / "autoencoder" / FINAL).exists():
        write_file(out / ENCODER, stored_tensors(load_autoencoder(config, run).encoder, torch.float32))


def _exported_autoencoder(config: Config, checkpoint: Path) -> WaveAutoencoder:
    autoencoder = WaveAutoencoder(config.codec, config.autoencoder.encoder_width)
    _exported(autoencoder.encoder, checkpoint / ENCODER)
    decoder = load_codec(checkpoint / CODEC_FOLDER).scalar_model.decoder
    load_weights(autoencoder.decoder, decoder.state_dict(), checkpoint / CODEC_FOLDER)
    return autoencoder


def _exported(module: nn.Module, path: Path) -> nn.Module:
    load_weights(module, load_file(path), path)
    return module


def _load(module: nn.Module, folder: Path) -> nn.Module:
    if not (folder / FINAL).exists():
        raise FileNotFoundError(f"{folder / FINAL}: stage {folder.name} is not finished")
    module.load_state_dict(torch.load(folder / FINAL, map_location="cpu", weights_only=True))
    return module
