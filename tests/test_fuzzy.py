"""Fuzzy induction against hand-built models, prompts read once more token by token, and a slow model."""

from __future__ import annotations

import numpy as np
import pytest
import slow_scores
import torch
from conftest import SHAPE, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from inductionkit.errors import ModelError
from inductionkit.lens import Lens
from inductionkit.scan.fuzzy import scan_fuzzy
from inductionkit.scores import on_prompts as scores
from inductionkit.scores.fuzzy import (
    FuzzyPrompts,
    fuzzy_prompts,
    template_prompts,
    token_class_prompts,
    translation_prompts,
)
from inductionkit.scores.on_fuzzy_prompts import fuzzy_logit_lift, fuzzy_matching
from inductionkit.testing import perfect_induction_model

KINDS = ("template", "token_classes", "translation")
# For the hand-built model, whose tokens are 0 (BOS) to 39.
CLASSES = [[1 + i, 14 + i, 27 + i] for i in range(13)]
MAPPING = {1 + i: 21 + (7 * i) % 19 for i in range(19)}
TEMPLATE_CLASSES = [[3 + 4 * i + each for i in range(8)] for each in range(4)]
SIGNS = [1, 2, 39, 36, 38, 37]  # mark, end, four labels


def model_that_matches(match: torch.Tensor, write: torch.Tensor):
    """The hand-built model with another head 1.0.

    At token `b` it attends to where the token before is an `a` with `match[a, b]`; what stands there, `c`,
    raises each `d` by `write[d, c]`.
    """
    model = perfect_induction_model()
    n = len(match)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["blocks.1.attn.q.weight"][:n, :n] = state["blocks.1.attn.q.weight"].max() * match
    state["blocks.1.attn.v.weight"][:n, :n] = write
    model.load_state_dict(state)
    return model


def same_class(classes) -> torch.Tensor:
    same = torch.zeros(40, 40)
    for members in classes:
        for a in members:
            same[a, members] = 1.0
    return same


def of_head(found, layer: int, head: int) -> tuple[float, float]:
    at = found.sel(layer=layer, head=head)
    return at.fuzzy_matching.item(), at.fuzzy_logit_lift.item()


# Heads whose scores are known by construction


def test_classes_of_one_token_are_literal_induction():
    singles = [[token] for token in range(1, 40)]
    literal = token_class_prompts(40, 0, singles, n_distinct=20)
    assert torch.equal(literal.targets, scores.followers(literal.tokens))
    pattern = torch.rand(10, 4, *literal.targets.shape[1:]).tril()
    torch.testing.assert_close(fuzzy_matching(pattern, literal), scores.prefix_matching(pattern, literal.tokens))
    found = scan_fuzzy(perfect_induction_model(), literal)
    assert of_head(found, 1, 0) == (pytest.approx(1.0, abs=1e-4), pytest.approx(1 - 1 / 40, abs=1e-4))
    assert of_head(found, 0, 0) == (pytest.approx(0.0, abs=1e-4), pytest.approx(0.0, abs=1e-4))


def test_a_translation_into_itself_is_literal_induction():
    literal = translation_prompts(40, 0, {token: token for token in range(1, 39)})
    assert torch.equal(literal.targets, scores.followers(literal.tokens))
    found = scan_fuzzy(perfect_induction_model(), literal)
    assert of_head(found, 1, 0) == (pytest.approx(1.0, abs=1e-4), pytest.approx(1 - 1 / 40, abs=1e-4))


@pytest.mark.parametrize(
    "prompts",
    [token_class_prompts(40, 0, CLASSES, n_distinct=13, n_repeats=3), translation_prompts(40, 0, MAPPING, n_words=19)],
    ids=["token_classes", "translation"],
)
def test_a_literal_head_is_lost_where_nothing_repeats_literally(prompts):
    """It finds no match, attends evenly, and raises tokens that came before, none of which is the answer."""
    found = scan_fuzzy(perfect_induction_model(), prompts)
    even = prompts.even_attention
    assert of_head(found, 1, 0) == (pytest.approx(even, abs=1e-5), pytest.approx(-1 / 40, abs=1e-5))
    assert of_head(found, 1, 1) == of_head(found, 0, 1) == (pytest.approx(even, abs=1e-5), 0.0)
    assert found.fuzzy_matching.attrs["even_attention"] == even < 0.1


def test_a_head_that_knows_the_classes_scores_one():
    """It attends to followers of class-mates and raises their three class-mates, of 40 tokens, alike."""
    same = same_class(CLASSES)
    model = model_that_matches(same, same)
    known = scan_fuzzy(model, token_class_prompts(40, 0, CLASSES, n_distinct=13, n_repeats=3))
    assert of_head(known, 1, 0) == (pytest.approx(1.0, abs=1e-4), pytest.approx(1 - 3 / 40, abs=1e-4))
    across = [[1 + i, 14 + (i + 1) % 13, 27 + (i + 3) % 13] for i in range(13)]  # no two of one class in CLASSES
    unknown = scan_fuzzy(model, token_class_prompts(40, 0, across, n_distinct=13, n_repeats=3))
    assert of_head(unknown, 1, 0)[0] < 0.15
    assert abs(of_head(unknown, 1, 0)[1]) < 0.15


@pytest.mark.parametrize(
    ("order", "matching", "lift"),
    [
        (None, 1.0, 1 - 1 / 40),
        # The next source word is right nowhere here; the last one's next is the separator, which raises nothing.
        ([1, 0, 3, 2, 5, 4], 0.0, -4 / 5 / 40),
        # Right but where the order jumps, from word 5 to word 0; there it attends to the separator.
        ([3, 4, 5, 0, 1, 2], 4 / 5, 4 / 5 * (1 - 1 / 40)),
    ],
    ids=["same order", "swapped pairs", "swapped halves"],
)
def test_a_head_that_knows_the_language_scores_as_its_word_order(order, matching, lift):
    match, write = torch.zeros(40, 40), torch.zeros(40, 40)
    for source, image in MAPPING.items():
        match[source, image] = write[image, source] = 1.0
    found = scan_fuzzy(model_that_matches(match, write), translation_prompts(40, 0, MAPPING, order, n_words=6))
    assert of_head(found, 1, 0) == (pytest.approx(matching, abs=1e-4), pytest.approx(lift, abs=1e-4))


def test_a_literal_head_attends_to_the_labels_of_all_templates():
    prompts = template_prompts(40, 0)
    right = []
    for row, answers in zip(prompts.tokens.tolist(), prompts.answers.tolist()):
        labels = [*row[4::5], answers[-1]]
        right += [labels[:i].count(label) / i for i, label in enumerate(labels) if label in labels[:i]]
    found = scan_fuzzy(perfect_induction_model(), prompts)
    assert found.attrs["n_queries"] == len(right) == 10 * 12
    # Each label raises itself; with nothing else attended to, the lift is the share of right ones less the mean.
    assert of_head(found, 1, 0) == (
        pytest.approx(np.mean(right), abs=1e-4),
        pytest.approx(np.mean(right) - 1 / 40, abs=1e-4),
    )
    assert np.mean(right) == pytest.approx(1 / 4, abs=0.04)


# The prompts, read once more


def read_token_classes(row: list[int], classes) -> dict[int, set[int]]:
    """Right keys by query: those after an earlier token of the same class."""
    kin = {token: frozenset(members) for members in classes for token in members}
    return {
        i: {j + 1 for j in range(i) if row[j] in kin and row[i] in kin and kin[row[j]] == kin[row[i]]}
        for i in range(len(row))
    }


def read_template(row: list[int], answer: int, classes, signs) -> dict[int, set[int]]:
    """Right keys by query: the labels of earlier lines with words of the same classes."""
    right, earlier, text = {}, [], [*row, answer, signs[1]]
    for at in range(row.index(signs[0]) - 2, len(row), 5):
        kinds = [next(c for c, members in enumerate(classes) if word in members) for word in text[at : at + 2]]
        assert kinds[0] in (0, 1) and kinds[1] in (2, 3)
        assert text[at + 2 : at + 5] == [signs[0], signs[2:][2 * kinds[0] + kinds[1] - 2], signs[1]]
        right[at + 2] = {label for label, others in earlier if others == kinds}
        earlier.append((at + 3, kinds))
    return right


def read_translation(row: list[int], answer: int, mapping, separator: int) -> dict[int, set[int]]:
    """Right keys by query: the word of the sentence that the next word translates."""
    sentence, text = row[: row.index(separator)], [*row, answer]
    return {
        i: {j for j, word in enumerate(sentence) if mapping.get(word) == text[i + 1]}
        for i in range(len(sentence) + 1, len(row))
    }


@pytest.mark.parametrize("bos", [0, None])
def test_targets_and_answers_are_what_the_docstrings_say(bos):
    in_order = translation_prompts(40, bos, MAPPING, separator=20, n_words=9)
    order = [2, 0, 1, 4, 3]
    reordered = translation_prompts(40, bos, MAPPING, order, separator=20, n_words=5)
    cases = [
        (token_class_prompts(40, bos, CLASSES, n_distinct=6), lambda row, _: read_token_classes(row, CLASSES)),
        (
            template_prompts(40, bos, TEMPLATE_CLASSES, SIGNS),
            lambda row, answer: read_template(row, answer, TEMPLATE_CLASSES, SIGNS),
        ),
        (in_order, lambda row, answer: read_translation(row, answer, MAPPING, 20)),
        (reordered, lambda row, answer: read_translation(row, answer, MAPPING, 20)),
    ]
    for prompts, read in cases:
        assert (prompts.tokens[:, 0] == 0).all() == (bos == 0)
        assert torch.equal(prompts.answers[:, :-1], prompts.tokens[:, 1:])  # what should come next is what comes next
        for row, answers, targets in zip(prompts.tokens.tolist(), prompts.answers.tolist(), prompts.targets):
            right = read(row, answers[-1])
            for i in range(len(row)):
                assert set(targets[i].nonzero().flatten().tolist()) == right.get(i, set()), (prompts.name, i)
    sentence, translated = reordered.tokens[:, bos is not None :][:, :5], reordered.answers[:, -5:]
    assert translated.tolist() == [[MAPPING[row[word]] for word in order] for row in sentence.tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_random_prompts_are_a_null_with_a_seed(kind):
    prompts, again, other = (fuzzy_prompts(kind, 1000, 0, n_sequences=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(prompts.tokens, again.tokens) and not torch.equal(prompts.tokens, other.tokens)
    assert prompts.settings["null"] == 1 and prompts.settings["seed"] == 1
    assert prompts.tokens[:, 1:].min() >= 20 and prompts.tokens.max() < 980
    assert len({tuple(row) for row in prompts.tokens.tolist()}) == 3
    for row in prompts.tokens.tolist():  # words come once; in templates, the signs come again
        n_again = len(row) - len(set(row))
        assert n_again == (15 + 14 + 15 - 4 if kind == "template" else 0)


def test_class_mates_come_in_turn():
    prompts = token_class_prompts(40, None, [[1, 2], [3, 4]], n_distinct=2, n_repeats=4)
    for row, answers in zip(prompts.tokens.tolist(), prompts.answers.tolist()):
        text = [*row, answers[-1]]
        for first in (0, 1):
            shown = text[first::2]
            assert set(shown[:2]) == set(shown[2:]) and len(set(shown)) == 2
    orders = {(row.index(1) < row.index(2), row.index(3) < row.index(4)) for row in prompts.tokens.tolist()}
    assert len(orders) > 2  # no member comes first by its place in the list


# Scores


def slow_scan(model, prompts: FuzzyPrompts) -> tuple[np.ndarray, np.ndarray]:
    """Both scores (layer, head), from the slow forward pass, query by query."""
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    matching, lift = np.empty((2, 2, 3, int(prompts.queries.sum())))
    at = 0
    for row, targets, answers in zip(*(each.numpy() for each in (prompts.tokens, prompts.targets, prompts.answers))):
        patterns, written, _, sigma = slow_scores.run(state, row, 3)
        for i in range(len(row)):
            if not targets[i].any():
                continue
            for layer in range(2):
                for head in range(3):
                    attention = patterns[layer][head][i]
                    matching[layer, head, at] = sum(attention[j] for j in range(len(row)) if targets[i, j])
                    raised = 0.0
                    for j in range(i + 1):
                        direction = written[layer][head][j]
                        direction = (direction - direction.mean()) * state["ln_final.weight"]
                        logits = state["unembed.weight"] @ direction
                        raised += attention[j] * (logits[answers[i]] - logits.mean()) / sigma[i]
                    lift[layer, head, at] = raised
            at += 1
    return matching.mean(-1), lift.mean(-1)


def own_prompts(seed: int) -> FuzzyPrompts:
    """Targets and answers that follow no rule; one sequence has no query that counts."""
    generator = torch.Generator().manual_seed(seed)
    tokens, answers = torch.randint(0, SHAPE["d_vocab"], (2, 4, 15), generator=generator)
    targets = (torch.rand(4, 15, 15, generator=generator) < 0.1).tril()
    targets[2] = False
    return FuzzyPrompts("own", tokens, targets, answers)


@pytest.mark.parametrize("seed", range(2))
def test_fast_scores_equal_the_slow_ones(seed, monkeypatch):
    model, prompts = random_model(seed), own_prompts(seed)
    matching, lift = slow_scan(model, prompts)
    found = scan_fuzzy(model, prompts)
    np.testing.assert_allclose(found.fuzzy_matching, matching, atol=1e-5)
    np.testing.assert_allclose(found.fuzzy_logit_lift, lift, atol=1e-4)
    monkeypatch.setattr(Lens, "batches", lambda self, tokens: list(tokens.split(1)))
    np.testing.assert_allclose(scan_fuzzy(model, prompts).fuzzy_matching, matching, atol=1e-5)
    np.testing.assert_allclose(scan_fuzzy(model, prompts).fuzzy_logit_lift, lift, atol=1e-4)


def test_made_up_patterns_give_their_closed_form():
    tokens = torch.tensor([[0, 1, 2, 3]])
    targets = torch.zeros(1, 4, 4, dtype=torch.bool)
    targets[0, 2, 1] = targets[0, 3, 1] = targets[0, 3, 2] = True
    prompts = FuzzyPrompts("made up", tokens, targets, torch.tensor([[1, 2, 3, 1]]))
    right, even, at_bos = torch.zeros(3, 4, 4)
    right[2, 1] = right[3, 1] = 1.0
    even[:] = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    at_bos[:, 0] = 1.0
    pattern = torch.stack([right, even, at_bos])[None]
    assert fuzzy_matching(pattern, prompts).tolist() == pytest.approx([1.0, (1 / 3 + 2 / 4) / 2, 0.0])
    assert prompts.even_attention == pytest.approx((1 / 3 + 2 / 4) / 2)
    # Value j has 1 at place j. Source 1 raises the answer of query 2 by 6 nats, source 0 lowers that of query 3 by 8;
    # query 1 does not count.
    gradient = torch.zeros(1, 4, 3, 4)
    gradient[:, 2, :, 1], gradient[:, 3, :, 0], gradient[:, 1, :, 0] = 6.0, -8.0, 100.0
    moved = pattern.transpose(1, 2)
    assert fuzzy_logit_lift(moved, gradient, prompts).tolist() == pytest.approx([3.0, (6 / 3 - 8 / 4) / 2, -4.0])


def test_a_scan_says_what_it_measured():
    found = scan_fuzzy(random_model(), fuzzy_prompts("translation", 60, 0, n_sequences=2, seed=4))
    assert found.fuzzy_matching.dims == found.fuzzy_logit_lift.dims == ("layer", "head")
    assert found.fuzzy_matching.attrs["units"] == "1" and found.fuzzy_logit_lift.attrs["units"] == "nats"
    assert found.attrs["prompts"] == "translation" and found.attrs["prompts_seed"] == 4
    assert found.attrs["n_sequences"] == 2 and found.attrs["n_queries"] == 2 * 24


def renamed(groups, names):
    return [[int(names[token]) for token in group] for group in groups]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_renaming_tokens_changes_no_score(seed):
    rng = np.random.default_rng(seed)
    names = np.concatenate([[0], 1 + rng.permutation(39)])  # BOS keeps its name
    mapping = {int(names[source]): int(names[image]) for source, image in MAPPING.items()}
    pairs = [
        (
            token_class_prompts(40, 0, CLASSES, n_distinct=5, n_sequences=2, seed=seed),
            token_class_prompts(40, 0, renamed(CLASSES, names), n_distinct=5, n_sequences=2, seed=seed),
        ),
        (
            template_prompts(40, 0, TEMPLATE_CLASSES, SIGNS, n_sequences=2, seed=seed),
            template_prompts(40, 0, renamed(TEMPLATE_CLASSES, names), *renamed([SIGNS], names), 4, 2, seed),
        ),
        (
            translation_prompts(40, 0, MAPPING, separator=20, n_words=8, n_sequences=2, seed=seed),
            translation_prompts(40, 0, mapping, separator=int(names[20]), n_words=8, n_sequences=2, seed=seed),
        ),
    ]
    generator = torch.Generator().manual_seed(seed)
    for prompts, again in pairs:
        assert torch.equal(torch.from_numpy(names)[prompts.tokens], again.tokens)
        assert torch.equal(torch.from_numpy(names)[prompts.answers], again.answers)
        length = prompts.tokens.shape[1]
        pattern = torch.rand(2, 3, length, length, generator=generator).tril()
        pattern /= pattern.sum(-1, keepdim=True)
        matching = fuzzy_matching(pattern, prompts)
        assert ((matching >= 0) & (matching <= 1)).all()
        torch.testing.assert_close(matching, fuzzy_matching(pattern, again))
        heads = torch.randperm(3, generator=generator)
        torch.testing.assert_close(fuzzy_matching(pattern[:, heads], prompts), matching[heads])


# What is refused


def build(**changes):
    parts = {
        "name": "own",
        "tokens": torch.zeros(2, 5, dtype=torch.long),
        "targets": torch.ones(2, 5, 5, dtype=torch.bool).tril(),
        "answers": torch.zeros(2, 5, dtype=torch.long),
    }
    return FuzzyPrompts(**parts | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": [[0, 1]]}, "tokens must be an int64 tensor .* seen list"),
        ({"tokens": torch.zeros(2, 5)}, "seen torch.float32 of shape"),
        ({"tokens": torch.zeros(5, dtype=torch.long)}, r"tokens .* of shape \(5,\)"),
        ({"answers": torch.zeros(2, 4, dtype=torch.long)}, r"answers .* of shape \(2, 4\)"),
        ({"answers": torch.full((2, 5), -1)}, "answers holds -1"),
        ({"targets": torch.ones(2, 5, 5)}, "targets must be a bool tensor"),
        ({"targets": torch.ones(2, 5, 4, dtype=torch.bool)}, r"shape \(2, 5, 5\); seen .* \(2, 5, 4\)"),
        ({"targets": torch.ones(2, 5, 5, dtype=torch.bool)}, r"targets\[0, 0, 1\] lies after its query"),
        ({"targets": torch.zeros(2, 5, 5, dtype=torch.bool)}, "no query has a target"),
    ],
)
def test_prompts_that_cannot_be_scored_are_refused(changes, message):
    build()
    with pytest.raises(ModelError, match=message):
        build(**changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fuzzy_prompts("rhyme", 100, 0), "kind='rhyme': there are template, token_classes, translation"),
        (lambda: fuzzy_prompts("template", 30, 0), "vocabulary of 30 leaves 29 tokens to draw 32 from"),
        (lambda: token_class_prompts(100, 0, [[1, 2], [2, 3]], n_distinct=2), "token 2 is named twice"),
        (lambda: token_class_prompts(100, 0, [[0, 2], [3]], n_distinct=2), "token 0 is BOS"),
        (lambda: token_class_prompts(100, 0, [[1, 100]], n_distinct=1), "100 is no token id"),
        (lambda: token_class_prompts(100, 0, [[1, " a"]], n_distinct=1), "' a' is no token id"),
        (lambda: token_class_prompts(100, 0, [[1], []], n_distinct=1), "list of tokens is empty"),
        (lambda: token_class_prompts(100, 0, [[1], [2]]), "2 classes were given, fewer than n_distinct=25"),
        (lambda: token_class_prompts(100, 0, n_repeats=1), "n_repeats=1 must be a whole number of at least 2"),
        (lambda: template_prompts(100, 0, [[1], [2], [3]]), "4 classes and 6 signs; seen 3 and 6"),
        (lambda: template_prompts(100, 0, [[1], [2], [3], [4]], [5, 6, 7, 8, 9, 1]), "token 1 is named twice"),
        (lambda: translation_prompts(100, 0, {1: 3, 2: 3}, n_words=2), "token 3 is named twice"),
        (lambda: translation_prompts(100, 0, {1: 3, 2: 4}), "mapping has 2 words, fewer than n_words=25"),
        (lambda: translation_prompts(100, 0, {1: 3, 2: 4}, separator=4, n_words=2), "token 4 is named twice"),
        (lambda: translation_prompts(100, 0, order=[0, 0, 1], n_words=3), "no permutation of 0..2"),
        (lambda: translation_prompts(100, 0, n_sequences=0), "n_sequences=0 must be a whole number of at least 1"),
    ],
)
def test_classes_and_mappings_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_prompts_that_do_not_fit_the_model_are_refused():
    model = random_model()
    with pytest.raises(ModelError, match="vocabulary 0 to 59"):
        scan_fuzzy(model, build(tokens=torch.full((2, 5), 60)))
    with pytest.raises(ModelError, match="answer 60 leaves the vocabulary 0 to 59"):
        scan_fuzzy(model, build(answers=torch.full((2, 5), 60)))
    with pytest.raises(ModelError, match="context of 128"):
        scan_fuzzy(model, token_class_prompts(60, 0, n_distinct=2, n_repeats=65, classes=[[1], [2]]))
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match="NaN"):
        scan_fuzzy(model, build())
