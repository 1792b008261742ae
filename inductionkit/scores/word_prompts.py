"""Prompts made of words, for models with a tokenizer: categories with labels, and lists of words that come twice.

Every word is spelled by itself, with the tokenizer, and its tokens are put in a row. So the place of each word and
label is known, however many tokens it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from ..errors import ModelError
from ..system.process_state import undisturbed
from ..system.whole_numbers import whole_number
from .matching_prompts import NOTHING, MatchingPrompts
from .word_lists import ANIMALS, COLOURS, FRUITS, MONTHS, RARE_WORDS

BEFORE = "0"  # a word is spelled as it is after this: many tokenizers add a space to the beginning of a text


@undisturbed()
def category_prompts(
    tokenizer: Any,
    bos: int | None,
    classes: Sequence[Sequence[str]] = (MONTHS, COLOURS, ANIMALS, FRUITS),
    labels: Sequence[str] = ("0", "1", "2", "3"),
    n_repeats: int = 6,
    n_sequences: int = 10,
    seed: int = 0,
    shuffled: bool = False,
) -> MatchingPrompts:
    """Lines such as `July lizard: 0` whose label depends only on the categories of the two words (O22).

    The first word is of class 0 or 1, the second of class 2 or 3: by default months or colours, animals or fruits. A
    sequence holds each of the four pairs `n_repeats` times, in random order. Which pair has which of the four `labels`
    is drawn for each sequence, so only its own lines tell. No word comes again before all of its class have come. The
    right places for the token before a label are the labels of earlier lines of the same pair; a head that spreads its
    attention evenly over all earlier labels places about 1/4 of it there. `counted` holds "labels", those of lines
    whose pair came before.

    With `shuffled` the labels of a sequence are dealt to its lines at random: nothing can be learnt but their
    frequencies, and the loss on "labels" is that of a model without the rule.

    `tokenizer` has a method `encode`, as those of transformers (`Lens(model).model.tokenizer`) and tokenizers have;
    `bos` is the token that prompts start with, or None. `n_sequences` are drawn with `seed`. Words that the tokenizer
    does not know are left out. Raises ModelError if a class keeps no word, two words of the classes are the same, or
    the labels differ elsewhere than in their last token.
    """
    _check_sizes(bos, seed, n_repeats=(n_repeats, 2), n_sequences=(n_sequences, 1))
    if len(classes) != 4 or len(labels) != 4:
        raise ModelError(f"categories take 4 classes of words and 4 labels; seen {len(classes)} and {len(labels)}")
    named = _strings(word for members in classes for word in members)
    if len(set(named)) < len(named):
        raise ModelError(f"{max(named, key=named.count)!r} is in the classes twice; give each word one place")
    spell = partial(spelled, tokenizer)
    before = ("", "", " ", " ")  # only second words follow a space
    words = [[ids for word in members if (ids := spell(space + word))] for space, members in zip(before, classes)]
    if not all(words):
        raise ModelError(f"the tokenizer knows no word of class {words.index([])}; give words that it knows")
    signs = [spell(f" {label}") for label in labels]
    if not all(signs) or len({ids[-1] for ids in signs}) < 4 or len({tuple(ids[:-1]) for ids in signs}) > 1:
        raise ModelError(f"labels={list(labels)!r} are spelled {signs}; give four that differ in the last token alone")
    mark, end = spell(":"), spell("\n")
    rng, dealer = _generators(seed)
    rows = []
    for _ in range(n_sequences):
        pairs = rng.permutation(np.repeat(np.arange(4), n_repeats))
        members = np.stack([pairs // 2, 2 + pairs % 2], axis=1)
        label_of = rng.permutation(4)[pairs]
        if shuffled:
            dealer.shuffle(label_of)
        decks = [_endless(len(of_class), rng) for of_class in words]
        row = _Row([] if bos is None else [bos])
        for line, (pair, label) in enumerate(zip(pairs.tolist(), label_of.tolist())):
            for member in members[line]:
                row.ids += words[member][next(decks[member])]
            row.ids += mark
            row.ids += signs[label]
            at = len(row.ids) - 1
            row.sought[at - 1] = row.offered[at] = pair
            if pair in pairs[:line]:
                row.counted.setdefault("labels", []).append(at)
            row.ids += end
        rows.append(row)
    settings = {"n_repeats": n_repeats, "seed": seed, "shuffled": int(shuffled)}
    return _stacked("categories", rows, settings)


@undisturbed()
def word_list_prompts(
    tokenizer: Any,
    bos: int | None,
    words: Sequence[str] = RARE_WORDS,
    place: Literal["last", "first"] = "last",
    n_words: int = 20,
    n_sequences: int = 10,
    seed: int = 0,
    shuffled: bool = False,
) -> MatchingPrompts:
    """Words of several tokens in random order, and the same list again: is a word copied whole or token by token?

    A query is the token before a word of the second list, its right place the `place` token of that word in the first
    list: the "last", which a head attends to that copies whole words (Feucht et al. 2025), or the "first", which a head
    attends to that copies token by token, since it follows the earlier copy of the query's token. Both are scored on
    the same prompts. The first word of the second list is no query, as nothing has been followed by it. `counted`
    holds the "first tokens" and "later tokens" of the words of the second list but for its first one.

    With `shuffled` the tokens of all words of a list are dealt to its places at random. The list then consists of
    nonsense of the same tokens and lengths, which can only be copied token by token.

    A sequence takes `n_words` of the `words`. `tokenizer`, `bos`, `n_sequences` and `seed` are as in
    `category_prompts`. Raises ModelError if the tokenizer spells too few of the words with several tokens.
    """
    _check_sizes(bos, seed, n_words=(n_words, 3), n_sequences=(n_sequences, 1))
    if place not in ("last", "first"):
        raise ModelError(f"place={place!r}: there are 'last' and 'first'")
    several = [ids for word in dict.fromkeys(_strings(words)) if len(ids := spelled(tokenizer, f" {word}")) > 1]
    if len(several) < n_words:
        raise ModelError(
            f"the tokenizer spells {len(several)} of the words with several tokens, fewer than n_words={n_words}; give "
            f"other words, or another model if its tokens are whole words"
        )
    rng, dealer = _generators(seed)
    rows = []
    for _ in range(n_sequences):
        chosen = [several[i] for i in rng.permutation(len(several))[:n_words]]
        if shuffled:
            tokens = iter(dealer.permutation([token for ids in chosen for token in ids]).tolist())
            chosen = [[next(tokens) for _ in ids] for ids in chosen]
        row = _Row([] if bos is None else [bos])
        for word, ids in enumerate(chosen):
            row.ids += ids
            row.offered[len(row.ids) - (1 if place == "last" else len(ids))] = word
        for word, ids in enumerate(chosen):
            at = len(row.ids)
            row.ids += ids
            if word:
                row.sought[at - 1] = word
                row.counted.setdefault("first tokens", []).append(at)
                row.counted.setdefault("later tokens", []).extend(range(at + 1, len(row.ids)))
        rows.append(row)
    settings = {"n_words": n_words, "place": place, "seed": seed, "shuffled": int(shuffled)}
    return _stacked(f"{place} tokens of words", rows, settings)


def spelled(tokenizer: Any, text: str) -> list[int]:
    """The tokens of `text` inside a longer text; none if the tokenizer does not know it. Raises ModelError."""
    start, whole = (encoded(tokenizer, each) for each in (BEFORE, BEFORE + text))
    if not start or whole[: len(start)] != start:  # it merged with what is before it
        start, whole = [], encoded(tokenizer, text)
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None and hasattr(tokenizer, "token_to_id"):
        unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")
    ids = whole[len(start) :]
    return [] if unknown in ids else ids


def _strings(words: Iterable[Any]) -> list[str]:
    named = list(words)
    for word in named:
        if not isinstance(word, str):
            raise ModelError(f"{word!r} is no word; give strings, which the tokenizer turns into tokens")
    return named


def encoded(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text without special ones, by a tokenizer of transformers or of tokenizers."""
    try:
        ids = tokenizer.encode(text, add_special_tokens=False)
    except (AttributeError, TypeError):
        raise ModelError(
            f"a {type(tokenizer).__name__} is no tokenizer with encode(text, add_special_tokens=False); give the "
            f"model's, such as Lens(model).model.tokenizer"
        ) from None
    return list(getattr(ids, "ids", ids))


@dataclass
class _Row:
    """A sequence while it is put together."""

    ids: list[int]
    sought: dict[int, int] = field(default_factory=dict)
    offered: dict[int, int] = field(default_factory=dict)
    counted: dict[str, list[int]] = field(default_factory=dict)


def _stacked(name: str, rows: list[_Row], settings: dict[str, Any]) -> MatchingPrompts:
    """The sequences at one length: what is to the right of a token changes nothing, so the last one fills up."""
    shape = len(rows), max(len(row.ids) for row in rows)
    tokens = torch.tensor([[*row.ids, *[row.ids[-1]] * (shape[1] - len(row.ids))] for row in rows])
    sought, offered = torch.full((2, *shape), NOTHING)
    counted = {which: torch.zeros(shape, dtype=torch.bool) for which in rows[0].counted}
    for i, row in enumerate(rows):
        for ids, given in ((sought, row.sought), (offered, row.offered)):
            ids[i, list(given)] = torch.tensor(list(given.values()))
        for which, places in row.counted.items():
            counted[which][i, places] = True
    return MatchingPrompts(name, tokens, settings, sought=sought, offered=offered, counted=counted)


def _endless(n: int, rng: np.random.Generator) -> Iterator[int]:
    """Numbers below `n` in random order, none again before all have come."""
    while True:
        yield from rng.permutation(n)


def _generators(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """One that draws the words, and one that shuffles, so that shuffled prompts consist of the same words."""
    return np.random.default_rng(seed), np.random.default_rng([seed, 1])


def _check_sizes(bos: int | None, seed: int, **sizes: tuple[int, int]) -> None:
    for name, (size, least) in {"bos": (0 if bos is None else bos, 0), "seed": (seed, 0), **sizes}.items():
        whole_number(size, name, least, ModelError)
