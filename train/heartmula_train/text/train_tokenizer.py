"""A small byte-level BPE tokenizer of the Llama-3 kind (lm.md B5a)."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from heartmula_train.text.prompt import GenConfig

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
_SPECIAL = [BOS, EOS, "<tag>", "</tag>"]
# Words with the space before them, numbers, punctuation, line breaks.
_SPLIT = r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learns merges from lower-cased texts; at most `vocabulary` ids, special ones first."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.lower() for text in texts), trainer)
    bos = (BOS, tokenizer.token_to_id(BOS))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[bos])
    return tokenizer


def special_ids(tokenizer: Tokenizer, audio_eos_id: int) -> GenConfig:
    """gen_config.json for this tokenizer."""
    return GenConfig(tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS), audio_eos_id)
