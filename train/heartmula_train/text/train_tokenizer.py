"""A small byte-level BPE tokenizer of the Llama-3 kind (lm.md B5a)."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, models, trainers

from heartmula_train.text.byte_level import SPECIAL, alphabet, begin_texts, split_bytes


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learns merges from lower-cased texts; at most `vocabulary` ids, special ones first."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split_bytes(tokenizer)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL, initial_alphabet=alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((text.lower() for text in texts), trainer)
    begin_texts(tokenizer)
    return tokenizer
