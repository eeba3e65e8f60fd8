"""Sizes of the language model, from HeartMuLa-oss-*/config.json (lm.md B1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

CODEBOOKS = 8


@dataclass(frozen=True)
class TransformerConfig:
    """A causal transformer of the Llama kind."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    embed_dim: int
    intermediate_dim: int
    max_seq_len: int
    norm_eps: float = 1e-5
    rope_base: float = 500000.0
    scale_factor: float = 32.0

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads or self.head_dim % 2:
            raise ValueError(f"embed_dim {self.embed_dim} does not make {self.num_heads} heads of an even size")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.embed_dim // self.num_heads


FLAVORS = {
    "llama-3B": TransformerConfig(28, 24, 8, 3072, 8192, 8192),
    "llama-7B": TransformerConfig(32, 32, 8, 4096, 14336, 8192),
    "llama-300M": TransformerConfig(3, 8, 4, 3072, 8192, 2048),
    "llama-400M": TransformerConfig(4, 8, 4, 3072, 8192, 2048),
}


@dataclass(frozen=True)
class LmConfig:
    """Sizes of backbone, depth decoder and vocabularies."""

    backbone: TransformerConfig
    decoder: TransformerConfig
    text_vocab_size: int
    audio_vocab_size: int
    muq_dim: int
    backbone_flavor: str = "tiny-backbone"
    decoder_flavor: str = "tiny-decoder"

    @staticmethod
    def from_json(fields: dict[str, Any]) -> LmConfig:
        """Reads config.json: an object `backbone` / `decoder` gives the numbers, or else the flavor names them."""
        if fields.get("audio_num_codebooks", CODEBOOKS) != CODEBOOKS:
            raise ValueError(f"audio_num_codebooks is {fields['audio_num_codebooks']}, not {CODEBOOKS}")
        return LmConfig(
            backbone=_transformer(fields, "backbone"),
            decoder=_transformer(fields, "decoder"),
            text_vocab_size=fields["text_vocab_size"],
            audio_vocab_size=fields["audio_vocab_size"],
            muq_dim=fields["muq_dim"],
            backbone_flavor=fields["backbone_flavor"],
            decoder_flavor=fields["decoder_flavor"],
        )

    def to_json(self, dtype: str) -> dict[str, Any]:
        """The content of config.json for weights stored as `dtype`."""
        return {
            "architectures": ["HeartMuLa"],
            "audio_num_codebooks": CODEBOOKS,
            "audio_vocab_size": self.audio_vocab_size,
            "backbone_flavor": self.backbone_flavor,
            "decoder_flavor": self.decoder_flavor,
            "dtype": dtype,
            "model_type": "heartmula",
            "muq_dim": self.muq_dim,
            "text_vocab_size": self.text_vocab_size,
            "backbone": asdict(self.backbone),
            "decoder": asdict(self.decoder),
        }


def _transformer(fields: dict[str, Any], part: str) -> TransformerConfig:
    if part in fields:
        return TransformerConfig(**fields[part])
    flavor = fields[f"{part}_flavor"]
    known = FLAVORS.get(flavor) or FLAVORS.get(f"llama-{flavor}")
    if known is None:
        raise ValueError(f'{part}_flavor is "{flavor}", which is none of {", ".join(FLAVORS)}; give an object "{part}"')
    return known
