"""The C++ program as a function: prompts or codes in, samples and the song's JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.io import wavfile

from heartmula_train.codec.config import SAMPLE_RATE

DEFAULT_PROGRAM = os.environ.get("HEARTMULA", "heartmula")


class ProgramError(RuntimeError):
    """The program's own message."""


@dataclass(frozen=True)
class Sampling:
    """How `generate` draws codes; names as its flags."""

    cfg_scale: float = 1.5
    topk: int = 50
    temperature: float = 1.0


@dataclass(frozen=True)
class Program:
    """A built `heartmula`, run on `threads` threads; `generate` with `more` flags."""

    path: str = DEFAULT_PROGRAM
    threads: int = 1
    more: tuple[str, ...] = ()

    def version(self) -> str:
        """As the program prints it."""
        return self._run("--version").strip()

    def generate(
        self,
        model_path: Path,
        prompt: tuple[str, str],
        save_path: Path,
        seed: int,
        max_audio_length_ms: int,
        sampling: Sampling,
        save_codes: Path | None = None,
    ) -> dict[str, Any]:
        """Makes a song of the prompt (tags, lyrics); returns its JSON."""
        settings = [word for name, value in asdict(sampling).items() for word in (f"--{name}", str(value))]
        if save_codes:
            settings += ["--save_codes", str(save_codes)]
        tags, lyrics = prompt
        texts = ["--tags_text", tags, "--lyrics_text", lyrics, "--max_audio_length_ms", str(max_audio_length_ms)]
        return self._song("generate", model_path, save_path, seed, [*texts, *settings, *self.more])

    def decode(
        self, model_path: Path, codes: Path, save_path: Path, seed: int, codec_steps: int | None = None
    ) -> dict[str, Any]:
        """Makes the audio of a codes file; needs no more of the checkpoint than its codec."""
        steps = [] if codec_steps is None else ["--codec_steps", str(codec_steps)]
        return self._song("decode", model_path, save_path, seed, [str(codes), *steps])

    def _song(self, command: str, model_path: Path, save_path: Path, seed: int, more: Sequence[str]) -> dict[str, Any]:
        where = ["--model_path", str(model_path), "--save_path", str(save_path), "--sample_format", "f32"]
        how = ["--seed", str(seed), "--threads", str(self.threads), "--progress", "none", "--json"]
        return json.loads(self._run(command, *more, *where, *how))

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run([self.path, *arguments], capture_output=True, text=True)
        except OSError as error:
            raise ProgramError(f"{self.path}: {error.strerror}; name the built program with --program") from error
        if done.returncode != 0:
            raise ProgramError(f"{Path(self.path).name} {arguments[0]}: {done.stderr.strip()}")
        return done.stdout


def write_codes(codes: np.ndarray, path: Path) -> None:
    """codes [T, 8] -> a codes file as `decode` reads it."""
    save_file({"codes": np.ascontiguousarray(codes, np.int32)}, path, {"format": "heartmula-codes"})


def read_codes(path: Path) -> np.ndarray:
    """int32 [T, 8] of a codes file."""
    return load_file(path)["codes"].astype(np.int32)


def read_wav(path: Path) -> np.ndarray:
    """float32 [2, samples] at 48 kHz, of a stereo WAV file with 16-bit or float samples."""
    with warnings.catch_warnings(action="ignore", category=wavfile.WavFileWarning):  # title and tags
        rate, samples = wavfile.read(path)
    if rate != SAMPLE_RATE or samples.ndim != 2 or samples.shape[1] != 2:
        raise ValueError(f"{path}: must be stereo at {SAMPLE_RATE} Hz")
    scale = 32768.0 if samples.dtype == np.int16 else 1.0
    return np.ascontiguousarray(samples.T / scale, np.float32)


def write_wav(song: np.ndarray, path: Path) -> None:
    """song float32 [2, samples] -> a WAV file with float samples."""
    wavfile.write(path, SAMPLE_RATE, np.ascontiguousarray(song.T, np.float32))
