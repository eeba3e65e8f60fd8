"""The configuration file of a training: sizes of the models, songs, and how each stage is trained (TOML)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from heartmula_train.codec.config import CodecConfig
from heartmula_train.lm.config import LmConfig, TransformerConfig
from heartmula_train.music.plan import MAX_SECONDS, MIN_SECONDS

# Beyond the codebook, as in the released model: its size itself is unused, the next ends the song.
SPARE_CODES = 5
AUDIO_EOS_AFTER = 1
MUQ_DIM = 8  # of the reference embedding, which nothing but a bias is left of

T = TypeVar("T")


@dataclass(frozen=True)
class Songs:
    """Lengths of the songs that are drawn."""

    min_seconds: float = MIN_SECONDS
    max_seconds: float = MAX_SECONDS


@dataclass(frozen=True)
class Training:
    """How a stage is trained; it ends after `steps`, or after `minutes` of training if that is sooner."""

    steps: int
    batch: int
    learning_rate: float
    minutes: float = float("inf")
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup_steps: int = 50
    decay_part: float = 0.4  # the learning rate falls to zero over the last part
    pool: int = 16  # songs to draw from at a time
    fresh: int = 1  # of them are replaced at every step
    validation_songs: int = 6
    validate_every: int = 200
    save_every_s: float = 60.0
    bf16: bool = False  # autocast


@dataclass(frozen=True)
class Autoencoder(Training):
    """Crops are `crop_frames` latent frames (40 ms each)."""

    crop_frames: int = 13
    encoder_width: int = 256
    freeze_norm_at: float = 0.6  # part of the training after which the latents' statistics are held


@dataclass(frozen=True)
class Rvq(Training):
    """`start_songs` songs for statistics, principal components and k-means; each step takes `batch` code frames."""

    start_songs: int = 64
    commitment: float = 0.25


@dataclass(frozen=True)
class Flow(Training):
    """Crops of `crop_frames` latent frames, whole windows in the last `window_part` of the training."""

    crop_frames: int = 128
    window_part: float = 0.2
    drop_condition: float = 0.1
    in_context: float = 0.5


@dataclass(frozen=True)
class LanguageModel(Training):
    """`batch` songs a step, none longer than `max_seconds`, cut to `max_frames` frames."""

    max_seconds: float = MAX_SECONDS
    max_frames: int = 300
    drop_text: float = 0.1
    depth_frames: int = 512  # frames a step for which the depth decoder is trained
    codebook_decay: float = 0.7  # each codebook weighs so much of the one before: the last ones are nearly noise
    noisy_songs: float = 0.5  # part of the songs in whose past up to `noise` of the frames are exchanged
    noise: float = 0.3
    tokenizer_songs: int = 400


@dataclass(frozen=True)
class GpuLanguageModel:
    """The language model on a GPU (stages/gpu): `tokens` positions a step, in rows of one of `lengths` positions.

    Songs last up to `max_seconds`, a part `longer` of them up to `longer_seconds`.
    """

    tokens: int
    depth_frames: int  # frames a step for which the depth decoder is trained
    lengths: tuple[int, ...]
    songs_per_length: int  # held on the device; then the oldest are replaced
    begin_with: int  # songs before the first step
    learning_rate: float  # of AdamW: embeddings, heads, norms
    muon_rate: float  # of Muon: the transformers' matrices; 0 leaves them to AdamW
    steps: int
    minutes: float = float("inf")
    workers: int = 0  # processes that make songs; without any, the training makes `fresh` of them between its steps
    fresh: int = 1
    max_seconds: float = MAX_SECONDS
    longer_seconds: float = MAX_SECONDS
    longer: float = 0.0
    warmup_steps: int = 300
    weight_decay: float = 0.1
    clip: float = 1.0
    average: float = 0.999  # what the average of the weights, which is exported, keeps of itself at a step
    counting: float = 0.1  # weight of a counting head
    codebook_decay: float = 0.75
    drop_text: float = 0.1
    noisy_songs: float = 0.5
    noise: float = 0.3
    bf16: bool = True
    validation_songs: int = 400
    validate_every: int = 1600
    log_every: int = 100
    save_every_s: float = 60.0


@dataclass(frozen=True)
class FlowStudent(Training):
    """A student of a flow: one flow map for each number of `student_steps` on uniform grids, the default first.

    What it learns from are solutions of the teacher, made before the first step, `shards` files of `passages` crops of
    `crop_frames` latent frames and `window_shards` files of `windows` whole windows, each with its points at the times
    of the finest grid. A kind of loss is drawn for every step, by `losses` and, in the last `late_part`, `late_losses`.
    """

    student_steps: tuple[int, ...] = (4, 2, 1)
    guidance: float = 1.25
    teacher_steps: int = 12  # AB2
    shards: int = 80
    passages: int = 64
    songs_per_shard: int = 8
    crop_frames: int = 128
    window_shards: int = 30
    windows: int = 8
    window_part: float = 0.2  # the last part of the training, on whole windows
    in_context: float = 0.5
    codes: str = "music"  # songs that the kit renders; else codes files, as a pattern of paths
    losses: tuple[tuple[str, float], ...] = (("interval", 0.9), ("guidance", 0.1))
    late_losses: tuple[tuple[str, float], ...] = ()
    late_part: float = 0.0
    own_points: float = 0.0  # part of the steps with `interval` that begin where the student itself has come to
    weight_power: float = 1.0  # passages weigh 1 / (their squared error + 0.001) to this power
    fine_steps: int = 50  # AB2 steps of the solution that is validated against
    frozen: tuple[str, ...] = ()  # parts of the velocity transformer that stay the teacher's


@dataclass(frozen=True)
class Continued(Training):
    """A finished language model that is trained further, on the first `max_frames` frames of songs.

    Songs are ones that the kit renders, none longer than `max_seconds`, or codes files with their requests.
    """

    codes: str = "music"  # else codes files, as a pattern of paths
    max_seconds: float = 24.0
    max_frames: int = 300
    drop_text: float = 0.1
    depth_frames: int = 256  # frames a step for which the depth decoder is trained
    codebook_decay: float = 0.75  # each codebook weighs so much of the one before
    guidance: float = 1.5  # this and the next two as songs are drawn; validation has figures for each temperature
    topk: int = 50
    temperatures: tuple[float, ...] = (1.0,)
    match_frames: int = 256  # of each song, whose matches are validated
    frozen: tuple[str, ...] = ()  # parts that stay as they are, as the beginnings of their parameters' names
    recompute: bool = False  # activations are computed again in the backward pass, which takes a third more time


@dataclass(frozen=True)
class EarlyExit(Continued):
    """LayerSkip (arXiv 2404.16710): layer dropout, and every layer of the backbone learns to be the last one.

    The weight of the exit behind l of L layers is exit_scale * (1 + ... + l), that of the whole model
    L + exit_scale * (1 + ... + L - 1), their sum 1. `exits_every` N trains every N-th exit at a step, in rotation;
    with `gradual` exits come in one after the other, from the last to the first, over half of the training.
    """

    layer_dropout: float = 0.1  # of the last layer; the l-th one's is (2^((l - 1) / (L - 1)) - 1) of it
    dropout_ramp: float = 0.0  # part of the training over which it rises, exponentially
    exit_scale: float = 0.2
    exits_every: int = 1
    gradual: bool = False
    exit_depth: float = 0.3  # weight of the depth decoder behind one exit, drawn at each step, beside the whole model's
    noisy_songs: float = 0.0  # as of the language model
    noise: float = 0.3


@dataclass(frozen=True)
class JacobiForcing(Continued):
    """Jacobi forcing (arXiv 2512.14681) on frames: codes behind wrong frames become what they are behind right ones.

    In each song `blocks` blocks of 1 + `riders` frames, as drawn at `temperature` with the noise that makes the song.
    """

    riders: int = 3
    blocks: int = 8
    temperature: float = 1.0
    consistency: float = 0.2  # weight beside the next frame's loss


@dataclass(frozen=True)
class Music:
    """What every training is about."""

    seed: int
    songs: Songs
    codec: CodecConfig


@dataclass(frozen=True)
class Drafting(Training):
    """A drafter: `batch` crops of `crop_frames` frames a step; KL, and in the last `tv_part` the total variation."""

    crop_frames: int = 32
    tv_part: float = 0.3


@dataclass(frozen=True)
class FrameDrafting(Drafting):
    """Up to `ahead` frames are drafted, those after the first on the drafter's own estimates, from `cuts` places."""

    regression: float = 1.0  # weight of the error of h (smooth L1)
    ahead: int = 2
    cuts: int = 4
    candidates: int = 16  # of which one must be right, in validation
    candidate_frames: int = 256  # that this is asked of at each temperature, about


@dataclass(frozen=True)
class MedusaHeading(Drafting):
    """Heads for the frames at offsets 1 to `heads`."""

    heads: int = 3
    regression: float = 1.0


@dataclass(frozen=True)
class DrafterConfig:
    """Everything a drafter's run depends on, beside the language model and its dumps; a stage may be left out."""

    seed: int
    depth: TransformerConfig
    micro_depth: Drafting
    frame: TransformerConfig | None = None
    frame_drafter: FrameDrafting | None = None
    medusa: MedusaHeading | None = None
    multi_token: MedusaHeading | None = None


@dataclass(frozen=True)
class StudentConfig(Music):
    """Everything a student's run depends on, beside its teacher."""

    flow_student: FlowStudent


@dataclass(frozen=True)
class ContinuedConfig(Music):
    """Everything that training a language model further depends on, beside its checkpoint."""

    continued: EarlyExit | JacobiForcing


@dataclass(frozen=True)
class Config(Music):
    """Everything a run depends on."""

    lm: LmConfig
    autoencoder: Autoencoder
    rvq: Rvq
    flow: Flow
    language_model: LanguageModel | GpuLanguageModel

    @property
    def audio_eos_id(self) -> int:
        """The code that ends a song."""
        return self.codec.codebook_size + AUDIO_EOS_AFTER


def read_config(path: Path) -> Config:
    """Reads a TOML file; an unknown or missing name is an error."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        codec_fields = dict(content["codec"])
        codec_fields["upsample_factors"] = tuple(codec_fields.get("upsample_factors", CodecConfig.upsample_factors))
        codec = _build(CodecConfig, codec_fields, "codec")
        lm_fields = content["lm"]
        lm = LmConfig(
            backbone=_build(TransformerConfig, lm_fields["backbone"], "lm.backbone"),
            decoder=_build(TransformerConfig, lm_fields["decoder"], "lm.decoder"),
            text_vocab_size=lm_fields["text_vocab_size"],
            audio_vocab_size=codec.codebook_size + SPARE_CODES,
            muq_dim=MUQ_DIM,
        )
        return Config(
            seed=content["seed"],
            songs=_build(Songs, content.get("songs", {}), "songs"),
            codec=codec,
            lm=lm,
            autoencoder=_build(Autoencoder, content["autoencoder"], "autoencoder"),
            rvq=_build(Rvq, content["rvq"], "rvq"),
            flow=_build(Flow, content["flow"], "flow"),
            language_model=_language_model(content),
        )
    except KeyError as error:
        raise ValueError(f"{path}: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def read_drafter_config(path: Path) -> DrafterConfig:
    """Reads a TOML file of a drafter: sizes in [depth] and [frame], and a table a stage."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    tables = {
        "depth": TransformerConfig,
        "micro_depth": Drafting,
        "frame": TransformerConfig,
        "frame_drafter": FrameDrafting,
        "medusa": MedusaHeading,
        "multi_token": MedusaHeading,
    }
    try:
        if unknown := content.keys() - tables.keys() - {"seed"}:
            raise ValueError(f"no drafter has {', '.join(sorted(unknown))}")
        parts = {name: _build(tables[name], table, name) for name, table in content.items() if name in tables}
        return DrafterConfig(seed=content["seed"], **parts)
    except KeyError as error:
        raise ValueError(f"{path}: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def read_student_config(path: Path, sizes: CodecConfig) -> StudentConfig:
    """Reads a TOML file of a student, whose teacher's sizes are `sizes`; other stages' tables are left alone."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        table = dict(content["flow_student"])
        for name in ("student_steps", "frozen"):
            if name in table:
                table[name] = tuple(table[name])
        for name in ("losses", "late_losses"):
            if name in table:
                table[name] = tuple(table[name].items())
        return StudentConfig(
            seed=content["seed"],
            songs=_build(Songs, content.get("songs", {}), "songs"),
            codec=replace(sizes, student_steps=table.get("student_steps", FlowStudent.student_steps)),
            flow_student=_build(FlowStudent, table, "flow_student"),
        )
    except KeyError as error:
        raise ValueError(f"{path}: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


CONTINUED: dict[str, type[EarlyExit] | type[JacobiForcing]] = {"early_exit": EarlyExit, "jacobi_forcing": JacobiForcing}


def read_continued_config(path: Path, stage: str, codec: CodecConfig) -> ContinuedConfig:
    """Reads a TOML file with a table of `stage`, one of CONTINUED; other stages' tables are left alone."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        table = {name: tuple(v) if isinstance(v, list) else v for name, v in content[stage].items()}
        songs = _build(Songs, content.get("songs", {}), "songs")
        return ContinuedConfig(content["seed"], songs, codec, _build(CONTINUED[stage], table, stage))
    except KeyError as error:
        raise ValueError(f"{path}: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _language_model(content: dict[str, Any]) -> LanguageModel | GpuLanguageModel:
    if "language_model_gpu" not in content:
        return _build(LanguageModel, content["language_model"], "language_model")
    if "language_model" in content:
        raise ValueError("has [language_model] and [language_model_gpu]; one of them says how it is trained")
    table = dict(content["language_model_gpu"])
    table["lengths"] = tuple(sorted(table["lengths"]))
    return _build(GpuLanguageModel, table, "language_model_gpu")


def _build(kind: type[T], content: dict[str, Any], section: str) -> T:
    unknown = content.keys() - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"[{section}] has no {', '.join(sorted(unknown))}")
    return kind(**content)
