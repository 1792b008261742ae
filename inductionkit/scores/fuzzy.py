"""Prompts for fuzzy induction: `[A*][B*] … [A] -> [B]` with `A*` like `A` but another token (O22, "Argument 4").

Three kinds of prompt ask for it, each built from token ids. Classes and translations can be the user's
own; those drawn at random are a null, since no model can know them. Every prompt stops before the
answer to its last query, so that each query has an answer and none is a special case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..errors import ModelError
from ..system.process_state import undisturbed
from ..system.whole_numbers import whole_number, whole_numbers
from .on_prompts import earlier_copies, followers

SKIPPED_SHARE = 0.02  # of the vocabulary at each end, its commonest and its rarest tokens: as for the literal scores


@dataclass(frozen=True, eq=False)
class FuzzyPrompts:
    """Prompts that say which keys are the right place for a query to attend to, and what should come next.

    `name` says of which kind they are, `tokens` what is read. `targets` marks the right keys; a query counts if and
    only if it has one. `answers` holds the token that should come next, and is read only where a query counts.
    `settings` says how the prompts were made and is stored with the scores. Raises ModelError if types or shapes do
    not fit, ids are negative, a target lies after its query or no query has one.
    """

    name: str
    tokens: Int[Tensor, "sequence position"]
    targets: Bool[Tensor, "sequence query key"]
    answers: Int[Tensor, "sequence query"]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role, ids in (("tokens", self.tokens), ("answers", self.answers)):
            if getattr(ids, "dtype", None) != torch.int64 or ids.ndim != 2 or ids.shape != self.tokens.shape:
                raise ModelError(f"{role} must be an int64 tensor (sequence, position) like tokens; {as_seen(ids)}")
            if ids.numel() and ids.min() < 0:
                raise ModelError(f"{role} holds {ids.min().item()}; ids start at 0, also where no query counts")
        expected = (*self.tokens.shape, self.tokens.shape[1])
        if getattr(self.targets, "dtype", None) != torch.bool or self.targets.shape != expected:
            raise ModelError(f"targets must be a bool tensor of shape {expected}; {as_seen(self.targets)}")
        for sequence, query, key in self.targets.triu(1).nonzero()[:1].tolist():
            raise ModelError(f"targets[{sequence}, {query}, {key}] lies after its query; mark keys up to {query} only")
        if not self.targets.any():
            raise ModelError("no query has a target, so there is nothing to score; mark the right keys in targets")

    @property
    def queries(self) -> Bool[Tensor, "sequence query"]:
        """The queries that count, those with a target."""
        return self.targets.any(-1)

    @property
    def even_attention(self) -> float:
        """What `fuzzy_matching` gives for a head that attends evenly to all it sees."""
        n_seen = torch.ones_like(self.targets).tril().sum(-1)
        return (self.targets.sum(-1) / n_seen)[self.queries].mean().item()


def fuzzy_prompts(
    kind: str,
    d_vocab: int,
    bos: int | None,
    n_sequences: int = 10,
    seed: int = 0,
    pool: Sequence[int] | None = None,
) -> FuzzyPrompts:
    """Prompts of a kind, "template", "token_classes" or "translation", with classes or a mapping drawn at random.

    A null, as no model can know what was drawn; the functions named after the kinds take classes or a mapping that mean
    something. `d_vocab` is the size of the vocabulary, `bos` the token that prompts start with, or None; `n_sequences`
    prompts are drawn with `seed`, from the tokens of `pool` (default: all but the commonest and rarest ids; where a
    vocabulary has tokens that no text used, give those that occur in held-out text). Raises ModelError for another kind
    or if the vocabulary is too small.

    >>> fuzzy_prompts("translation", d_vocab=1000, bos=0).tokens.shape  # BOS, 25 words, separator, 24 words
    torch.Size([10, 51])
    """
    builders: dict[str, Callable[..., FuzzyPrompts]] = {
        "template": template_prompts,
        "token_classes": token_class_prompts,
        "translation": translation_prompts,
    }
    if not isinstance(kind, str) or kind not in builders:
        raise ModelError(f"kind={kind!r}: there are {', '.join(builders)}")
    return builders[kind](d_vocab, bos, n_sequences=n_sequences, seed=seed, pool=pool)


@undisturbed()
def token_class_prompts(
    d_vocab: int,
    bos: int | None,
    classes: Sequence[Sequence[int]] | None = None,
    n_distinct: int = 25,
    n_repeats: int = 4,
    n_sequences: int = 10,
    seed: int = 0,
    pool: Sequence[int] | None = None,
) -> FuzzyPrompts:
    """A random order of token classes, repeated; each repeat shows another member of each class.

    A class is a list of near-synonyms. A sequence takes `n_distinct` of the `classes` and repeats them
    `n_repeats` times; no member comes again before all of its class have come. The right places are
    the followers of earlier class-mates of the current token; the answer is the token that comes next,
    a class-mate of those followers. With classes of one token this is literal induction, and the
    targets are those of `prefix_matching`; in classes of `n_repeats` or more no token comes twice, and a
    head that matches tokens literally finds nothing.

    Without `classes`, `n_distinct` classes of `n_repeats` tokens are drawn at random. `d_vocab`, `bos`, `n_sequences`,
    `seed` and `pool` are as in `fuzzy_prompts`. Raises ModelError if classes share a token, hold the BOS token, leave
    the vocabulary or are too few.
    """
    _check_sizes(d_vocab, bos, seed, n_repeats=(n_repeats, 2), n_distinct=(n_distinct, 1), n_sequences=(n_sequences, 1))
    settings = {"null": int(classes is None), "n_distinct": n_distinct, "n_repeats": n_repeats, "seed": seed}
    rng = np.random.default_rng(seed)
    if classes is None:
        classes = _draw(d_vocab, n_distinct * n_repeats, (bos,), rng, pool).reshape(n_distinct, n_repeats).tolist()
    groups = _token_groups(classes, d_vocab, bos)
    if len(groups) < n_distinct:
        raise ModelError(f"{len(groups)} classes were given, fewer than n_distinct={n_distinct}; lower n_distinct")
    class_of = torch.arange(d_vocab)
    for group in groups:
        class_of[group] = int(group[0])
    texts = []
    for _ in range(n_sequences):
        chosen = rng.permutation(len(groups))[:n_distinct]
        texts.append(np.stack([_deal(groups[each], n_repeats, rng) for each in chosen], axis=1).ravel())
    text = _text(texts, bos)
    return _up_to_last_answer("token_classes", text, followers(class_of[text]), settings)


@undisturbed()
def template_prompts(
    d_vocab: int,
    bos: int | None,
    classes: Sequence[Sequence[int]] | None = None,
    signs: Sequence[int] | None = None,
    n_repeats: int = 4,
    n_sequences: int = 10,
    seed: int = 0,
    pool: Sequence[int] | None = None,
) -> FuzzyPrompts:
    """Lines `[word][word][mark][label][end]` whose label depends only on the classes of the two words (O22).

    The first word comes from class 0 or 1, the second from class 2 or 3 (O22: months or colours,
    animals or fruits), which makes four templates, each with its label. A sequence holds each template
    `n_repeats` times in random order, and no word comes again before all of its class have come. At
    the mark of a line whose template came before, the right places are the labels of those earlier
    lines; the answer is this line's label. A head that matches the mark literally attends to the labels
    of all earlier lines alike and scores about 1/4, not 0.

    `classes` are four lists of token ids; without, four of `2 * n_repeats` tokens are drawn at random. `signs` are six
    token ids: mark, end, and the labels of the class pairs (0, 2), (0, 3), (1, 2), (1, 3); without, they are drawn at
    random. `d_vocab`, `bos`, `n_sequences`, `seed` and `pool` are as in `fuzzy_prompts`. Raises ModelError if there are
    not four classes and six signs, all of them different tokens of the vocabulary other than BOS.
    """
    _check_sizes(d_vocab, bos, seed, n_repeats=(n_repeats, 2), n_sequences=(n_sequences, 1))
    settings = {"null": int(classes is None), "n_repeats": n_repeats, "seed": seed}
    rng = np.random.default_rng(seed)
    if classes is None:
        taken = (bos, *([] if signs is None else signs))
        classes = _draw(d_vocab, 8 * n_repeats, taken, rng, pool).reshape(4, -1).tolist()
    if signs is None:
        signs = _draw(d_vocab, 6, (bos, *chain(*classes)), rng, pool).tolist()
    if len(classes) != 4 or len(signs) != 6:
        raise ModelError(f"templates take 4 classes and 6 signs; seen {len(classes)} and {len(signs)}")
    *words, (mark, end, *labels) = _token_groups([*classes, signs], d_vocab, bos)
    texts, same_template = [], []
    for _ in range(n_sequences):
        template = rng.permutation(np.repeat(np.arange(4), n_repeats))
        class_of_word = np.stack([template // 2, 2 + template % 2], axis=1)
        lines = np.empty((len(template), 5), dtype=np.int64)
        for each, members in enumerate(words):
            lines[:, :2][class_of_word == each] = _deal(members, 2 * n_repeats, rng)
        lines[:, 2], lines[:, 3], lines[:, 4] = mark, np.array(labels)[template], end
        texts.append(lines.ravel()[:-1])
        same_template.append(earlier_copies(torch.from_numpy(template)[None]))
    text = _text(texts, bos)
    targets = torch.zeros(*text.shape, text.shape[1], dtype=torch.bool)
    marks = torch.arange(int(bos is not None) + 2, text.shape[1], 5)
    targets[:, marks[:, None], marks + 1] = torch.cat(same_template)
    return _up_to_last_answer("template", text, targets, settings)


@undisturbed()
def translation_prompts(
    d_vocab: int,
    bos: int | None,
    mapping: Mapping[int, int] | None = None,
    order: Sequence[int] | None = None,
    separator: int | None = None,
    n_words: int = 25,
    n_sequences: int = 10,
    seed: int = 0,
    pool: Sequence[int] | None = None,
) -> FuzzyPrompts:
    """A sentence of `n_words` different random words, a separator, and its translation word by word.

    `mapping` translates token by token, one to one. `order` is the word order of the translation: its
    `k`-th word translates word `order[k]` of the sentence (default: the same order). At each word of
    the translation, the right place is the source of the *next* one, the answer its translation. With
    a mapping of each token to itself and the same order this is literal induction, and the targets are
    those of `prefix_matching`. Nothing in the prompt tells another order: a head can only know it.

    Without `mapping`, `2 * n_words` tokens are paired at random; without `separator`, one of the other tokens is drawn.
    `d_vocab`, `bos`, `n_sequences`, `seed` and `pool` are as in `fuzzy_prompts`. Raises ModelError if two words have
    one translation, tokens leave the vocabulary or are BOS, words are too few or `order` is no permutation of `0 …
    n_words - 1`.
    """
    sign_or_none = (0 if separator is None else separator, 0)
    _check_sizes(d_vocab, bos, seed, n_words=(n_words, 2), n_sequences=(n_sequences, 1), separator=sign_or_none)
    order = list(range(n_words)) if order is None else list(order)
    if sorted(order) != list(range(n_words)):
        raise ModelError(f"order={order} is no permutation of 0..{n_words - 1}; name each word of a sentence once")
    settings = {"null": int(mapping is None), "order": order, "n_words": n_words, "seed": seed}
    rng = np.random.default_rng(seed)
    if mapping is None:
        mapping = dict(_draw(d_vocab, 2 * n_words, (bos, separator), rng, pool).reshape(-1, 2).tolist())
    if separator is None:
        [separator] = _draw(d_vocab, 1, (bos, *mapping, *mapping.values()), rng, pool).tolist()
    words, sign = _token_groups([list(mapping), [separator]], d_vocab, bos)
    translations, _ = _token_groups([list(mapping.values()), [separator]], d_vocab, bos)
    if len(words) < n_words:
        raise ModelError(f"the mapping has {len(words)} words, fewer than n_words={n_words}; lower n_words")
    texts = []
    for _ in range(n_sequences):
        chosen = rng.permutation(len(words))[:n_words]
        texts.append(np.concatenate([words[chosen], sign, translations[chosen[order]]]))
    text, start = _text(texts, bos), int(bos is not None)
    targets = torch.zeros(*text.shape, text.shape[1], dtype=torch.bool)
    translated = start + n_words + 1 + torch.arange(n_words - 1)
    targets[:, translated, start + torch.tensor(order[1:])] = True
    return _up_to_last_answer("translation", text, targets, settings)


def _up_to_last_answer(name: str, text: Tensor, targets: Tensor, settings: dict[str, Any]) -> FuzzyPrompts:
    """The text without its last token, which only answers."""
    return FuzzyPrompts(name, text[:, :-1], targets[:, :-1, :-1], text[:, 1:], settings)


def _token_groups(groups: Sequence[Sequence[int]], d_vocab: int, bos: int | None) -> list[Int[np.ndarray, " token"]]:
    """Lists of token ids as arrays, none of them empty and no token in two places. Raises ModelError."""
    seen: set[int] = set()
    for token in chain(*groups):
        if not isinstance(token, Integral) or not 0 <= token < d_vocab:
            raise ModelError(f"{token!r} is no token id; this vocabulary has 0 to {d_vocab - 1}")
        if token == bos or token in seen:
            raise ModelError(f"token {token} {'is BOS' if token == bos else 'is named twice'}; give it one role only")
        seen.add(token)
    if not all(map(len, groups)):
        raise ModelError("a list of tokens is empty; leave it out or name its tokens")
    return [np.array(group) for group in groups]


def _draw(
    d_vocab: int, n: int, taken: Iterable[int | None], rng: np.random.Generator, pool: Sequence[int] | None
) -> Int[np.ndarray, " token"]:
    """`n` different random tokens, none of those `taken`; without a pool neither the commonest nor the rarest ids."""
    skipped, taken = int(SKIPPED_SHARE * d_vocab), set(taken)
    allowed: Iterable[int] = range(skipped, d_vocab - skipped)
    if pool is not None:
        allowed = np.unique(whole_numbers(pool, "pool", 0, ModelError)).tolist()
    candidates = [token for token in allowed if token not in taken]
    if len(candidates) < n:
        raise ModelError(
            f"{'the pool' if pool is not None else f'the vocabulary of {d_vocab}'} leaves {len(candidates)} tokens to "
            f"draw {n} from; ask for less"
        )
    return rng.permutation(candidates)[:n]


def _deal(tokens: Int[np.ndarray, " token"], n: int, rng: np.random.Generator) -> Int[np.ndarray, " dealt"]:
    """`n` of the tokens in random order, none again before all have come."""
    return np.concatenate([rng.permutation(tokens) for _ in range(-(-n // len(tokens)))])[:n]


def _text(sequences: list[Int[np.ndarray, " word"]], bos: int | None) -> Int[Tensor, "sequence position"]:
    start = [] if bos is None else [bos]
    return torch.tensor(np.array([[*start, *tokens] for tokens in sequences]))


def _check_sizes(d_vocab: int, bos: int | None, seed: int, **sizes: tuple[int, int]) -> None:
    known = {"d_vocab": (d_vocab, 1), "bos": (0 if bos is None else bos, 0), "seed": (seed, 0)}
    for name, (size, least) in {**known, **sizes}.items():
        whole_number(size, name, least, ModelError)


def as_seen(ids: object) -> str:
    return f"seen {getattr(ids, 'dtype', type(ids).__name__)} of shape {tuple(getattr(ids, 'shape', ()))}"
