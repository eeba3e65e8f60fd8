"""What tokenizers of the Llama-3 kind have in common: special tokens, how text is split, how bytes are written."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors

from heartmula_train.text.prompt import GenConfig

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
SPECIAL = [BOS, EOS, "<tag>", "</tag>"]  # ids 0 to 3
# Words with the space before them, numbers, punctuation, line breaks.
_SPLIT = r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+"


def alphabet() -> list[str]:
    """A character for each byte."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def split_bytes(tokenizer: Tokenizer) -> None:
    """Text is split and written as bytes, and back."""
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()


def begin_texts(tokenizer: Tokenizer) -> None:
    """Every text begins with BOS, which the vocabulary has by now."""
    bos = (BOS, tokenizer.token_to_id(BOS))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[bos])


def special_ids(tokenizer: Tokenizer, audio_eos_id: int) -> GenConfig:
    """gen_config.json for this tokenizer."""
    return GenConfig(tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS), audio_eos_id)
