"""Tags and lyrics -> the prompt's text column (lm.md B5)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tokenizers import Tokenizer


@dataclass(frozen=True)
class GenConfig:
    """Special ids, from gen_config.json."""

    text_bos_id: int
    text_eos_id: int
    audio_eos_id: int
    empty_id: int = 0

    def to_json(self) -> dict[str, int]:
        """The content of gen_config.json."""
        return asdict(self)


@dataclass(frozen=True)
class Prompt:
    """Text ids [P]; the position `reference_index` holds the reference embedding instead."""

    text_ids: list[int]
    reference_index: int


def make_prompt(tokenizer: Tokenizer, config: GenConfig, tags: str, lyrics: str) -> Prompt:
    """Lower-cased, framed; tags are wrapped in <tag>...</tag> (without stripping, as the reference does)."""
    tags = tags.lower()
    if not tags.startswith("<tag>"):
        tags = "<tag>" + tags
    if not tags.endswith("</tag>"):
        tags += "</tag>"
    tag_ids = _framed(tokenizer, config, tags)
    return Prompt([*tag_ids, 0, *_framed(tokenizer, config, lyrics.lower())], len(tag_ids))


def _framed(tokenizer: Tokenizer, config: GenConfig, text: str) -> list[int]:
    ids = tokenizer.encode(text).ids
    if not ids or ids[0] != config.text_bos_id:
        ids = [config.text_bos_id, *ids]
    if ids[-1] != config.text_eos_id:
        ids = [*ids, config.text_eos_id]
    return ids
