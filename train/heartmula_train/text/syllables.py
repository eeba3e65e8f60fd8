"""A tokenizer whose tokens are sung syllables.

The kit's voice sings one syllable a beat. With as many tokens for a word as it has syllables, the k-th token of a line
is its k-th beat: what a small model must count is the same on both sides. Merges learned by frequency cut nearly half
of the words that begin a line otherwise than the same words after a space.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, models

from heartmula_train.text.byte_level import SPECIAL, alphabet, begin_texts, split_bytes

_SPACE, _LINE_BREAK = "Ġ", "Ċ"  # how byte-level BPE writes them
_MOST_TRIES = 100_000


def syllable_tokenizer(words: Iterable[str], syllables: Sequence[str], names: Sequence[str]) -> Tokenizer:
    """Each of `words` and `names` is one token, those of `syllables` ("ri-ver") a token a piece; always the same.

    Words are so after a space and without one, names without. Merges that cut every word so are searched: an order of
    the pieces in which none is taken apart by another's.
    """
    rng = random.Random(0)
    order = sorted(_pieces(syllables), key=lambda piece: -len(piece))
    singles = [start + word for word in sorted(words) for start in ("", _SPACE)]
    endings = [*names, _LINE_BREAK, 2 * _LINE_BREAK]
    wrong = _wrong(_build(order, []), syllables)
    for _ in range(_MOST_TRIES):
        if not wrong:
            return _build(order, [*singles, *endings])
        tried = order[:]
        tried.insert(rng.randrange(len(tried)), tried.pop(rng.randrange(len(tried))))
        count = _wrong(_build(tried, []), syllables)
        if count <= wrong:
            order, wrong = tried, count
    raise ValueError(f"no merges were found that cut every word into its syllables ({wrong} are cut otherwise)")


def _pieces(syllables: Sequence[str]) -> list[str]:
    found: list[str] = []
    for word in syllables:
        first, *rest = word.split("-")
        found += [piece for piece in (first, _SPACE + first, *rest) if len(piece) > 1]
    return list(dict.fromkeys(found))


def _build(order: Sequence[str], whole: Sequence[str]) -> Tokenizer:
    """Merges that make the pieces in this order, letter by letter; `whole` are tokens without a merge."""
    merges = dict.fromkeys((piece[:i], piece[i]) for piece in order for i in range(1, len(piece)))
    tokens = [*SPECIAL, *alphabet(), *(left + right for left, right in merges), *whole]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges), ignore_merges=True))
    split_bytes(tokenizer)
    tokenizer.add_special_tokens(SPECIAL)
    begin_texts(tokenizer)
    return tokenizer


def _wrong(tokenizer: Tokenizer, syllables: Sequence[str]) -> int:
    """Words that are cut otherwise, at a line's beginning or after a space."""
    count = 0
    for word in syllables:
        first, *rest = word.split("-")
        text = first + "".join(rest)
        count += tokenizer.encode(text).tokens[1:] != [first, *rest]
        count += tokenizer.encode(" " + text).tokens[1:] != [_SPACE + first, *rest]
    return count
