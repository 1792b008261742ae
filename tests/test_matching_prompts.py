"""Prompts of words, their shuffled nulls and ablations, against texts read once more and patterns with known scores."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest
import tokenizers
import torch
from conftest import random_model
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import inductionkit as ik
from inductionkit.ablation import compare_on_prompts
from inductionkit.errors import ModelError
from inductionkit.lens import Lens
from inductionkit.scan.fuzzy import scan_fuzzy
from inductionkit.scores.matching_prompts import (
    NOTHING,
    MatchingPrompts,
    against_shuffles,
    shuffled_targets,
)
from inductionkit.scores.on_fuzzy_prompts import fuzzy_matching
from inductionkit.scores.word_lists import ANIMALS, COLOURS, FRUITS, MONTHS, RARE_WORDS
from inductionkit.scores.word_prompts import category_prompts, spelled, word_list_prompts
from inductionkit.testing import hand_built_model, perfect_induction_model

CLASSES = (MONTHS, COLOURS, ANIMALS, FRUITS)
BOS = 0
LINE = re.compile(r"(\w+) (\w+) ?: ?([0-3])")
TEXT = [f"{a} {b}: {i % 4}\n" for i, (a, b) in enumerate(zip(MONTHS + COLOURS, ANIMALS + FRUITS))]


# Tokenizers of every kind, trained on next to nothing


def byte_level(size: int):
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*TEXT, " ".join(RARE_WORDS[:60])], trainer)
    return made


def sentence_piece():
    """Puts a space before every text, as those of Llama 2 do."""
    made = tokenizers.Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    alphabet = sorted(set("".join([*TEXT, *RARE_WORDS])))
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<s>", "<unk>"], unk_token="<unk>", initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(TEXT + RARE_WORDS, trainer)
    return made


def word_level():
    words = sorted({part for members in CLASSES for part in members} | set("0123:"))
    made = tokenizers.Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(["<s>", "<unk>", *words])}, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def by_letter(letters: str = "abcdefghijklmnopqrstuvwxyz0123456789"):
    made = tokenizers.Tokenizer(models.WordLevel({each: i for i, each in enumerate(["<s>", *letters])}, "<s>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    return made


KINDS = {
    "bytes": lambda: byte_level(257),
    "byte-level BPE": lambda: byte_level(500),
    "one with spaces": sentence_piece,
    "words": word_level,
    "of transformers": lambda: PreTrainedTokenizerFast(tokenizer_object=byte_level(700), bos_token="<s>"),
}


@pytest.fixture(params=KINDS)
def tokenizer(request):
    return KINDS[request.param]()


# The prompts, read once more from their text


@pytest.mark.parametrize("shuffled", [False, True])
def test_lines_say_what_is_sought_and_offered(tokenizer, shuffled):
    prompts = category_prompts(tokenizer, BOS, n_repeats=3, n_sequences=4, shuffled=shuffled)
    category = {word: i for i, members in enumerate(CLASSES) for word in members}
    rules = set()
    for row, sought, offered, targets, counted in zip(
        prompts.tokens.tolist(), prompts.sought.tolist(), prompts.offered, prompts.targets, prompts.counted["labels"]
    ):
        ends = offered.ne(NOTHING).nonzero().flatten().tolist()
        lines = [tokenizer.decode(row[start + 1 : end + 1]) for start, end in zip([0, *ends], ends)]
        read = [LINE.fullmatch(line.strip()) for line in lines]
        assert len(read) == 12 and all(read), lines
        pairs = [(category[line[1]], category[line[2]]) for line in read]
        assert set(pairs) == {(0, 2), (0, 3), (1, 2), (1, 3)} and set(Counter(pairs).values()) == {3}
        labels = [line[3] for line in read]
        assert [tokenizer.decode([row[end]]).strip() for end in ends] == labels
        assert set(Counter(labels).values()) == {3}
        of_pair = {pair: {label for label, p in zip(labels, pairs) if p == pair} for pair in set(pairs)}
        assert (max(map(len, of_pair.values())) == 1) is not shuffled
        if not shuffled:
            rules.add(tuple(sorted((pair, *label) for pair, label in of_pair.items())))
        words = [word for line in read for word in (line[1], line[2])]
        assert len(set(words)) == len(words)
        assert [i for i, each in enumerate(sought) if each != NOTHING] == [end - 1 for end in ends]
        for i, end in enumerate(ends):
            right = {ends[j] for j in range(i) if pairs[j] == pairs[i]}
            assert set(targets[end - 1].nonzero().flatten().tolist()) == right
            assert bool(counted[end]) == bool(right)
        assert counted.sum() == 8
    assert shuffled or len(rules) > 1  # each sequence has a rule of its own


@pytest.mark.parametrize("place", ["last", "first"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_words_come_twice_and_are_sought_from_the_token_before(tokenizer, place, shuffled):
    if len(spelled(tokenizer, " armadillo")) < 2:
        with pytest.raises(ModelError, match="spells 0 of the words with several tokens"):
            word_list_prompts(tokenizer, BOS)
        return
    prompts = word_list_prompts(tokenizer, BOS, place=place, n_words=6, n_sequences=3, shuffled=shuffled)
    of_text = word_list_prompts(tokenizer, BOS, place=place, n_words=6, n_sequences=3)
    for i, (row, sought, offered) in enumerate(zip(prompts.tokens.tolist(), prompts.sought, prompts.offered.tolist())):
        words = tokenizer.decode(of_text.tokens[i].tolist()[1:]).split()[:6]
        assert len(set(words)) == 6 and set(words) <= set(RARE_WORDS)
        lengths = [len(spelled(tokenizer, f" {word}")) for word in words]
        half = sum(lengths)
        starts = 1 + np.cumsum([0, *lengths])
        assert row[1 : 1 + half] == row[1 + half : 1 + 2 * half]
        own = [token for word in words for token in spelled(tokenizer, f" {word}")]
        assert sorted(row[1 : 1 + half]) == sorted(own) and (row[1 : 1 + half] == own) is not shuffled
        firsts, lasts = starts[:-1].tolist(), (starts[1:] - 1).tolist()
        right = lasts if place == "last" else firsts
        assert {at: word for at, word in enumerate(offered) if word != NOTHING} == dict(zip(right, range(6)))
        again = [half + first for first in firsts]
        assert sought.ne(NOTHING).nonzero().flatten().tolist() == [first - 1 for first in again[1:]]
        for word, first in enumerate(again[1:], start=1):
            assert prompts.targets[i, first - 1].nonzero().flatten().tolist() == [right[word]]
        expected = {"first tokens": set(again[1:]), "later tokens": set(range(again[1], 1 + 2 * half)) - set(again)}
        for name, places in expected.items():
            assert set(prompts.counted[name][i].nonzero().flatten().tolist()) == places


def test_prompts_have_a_seed():
    made = byte_level(500)
    for build in (category_prompts, word_list_prompts):
        one, again, other = (build(made, BOS, n_sequences=3, seed=seed).tokens for seed in (1, 1, 2))
        assert torch.equal(one, again) and not (one.shape == other.shape and torch.equal(one, other))
        assert (one[:, 0] == BOS).all() and (build(made, None, n_sequences=2).tokens[:, 0] != BOS).all()


def test_a_text_is_spelled_as_after_another_word():
    made = sentence_piece()
    assert made.encode("lizard").ids == spelled(made, " lizard")  # the space is part of its first token, once
    assert spelled(word_level(), " lizard") == [word_level().token_to_id("lizard")]
    assert spelled(word_level(), " wombat") == []  # unknown
    assert spelled(byte_level(257), " ab") == [byte_level(257).token_to_id(each) for each in "Ġab"]


# Nulls


def own_prompts(sought, offered, **changes) -> MatchingPrompts:
    sought, offered = torch.tensor(sought), torch.tensor(offered)
    tokens = torch.arange(sought.numel()).view(sought.shape)
    return MatchingPrompts("own", **{"tokens": tokens, "sought": sought, "offered": offered} | changes)


def scores_by_draw(prompts: MatchingPrompts, pattern: torch.Tensor, n_shuffles: int = 999) -> np.ndarray:
    drawn = shuffled_targets(prompts, n_shuffles)
    summed = sum(each.attention(rows) for each, rows in zip(drawn, pattern))
    return (summed / sum(each.n_queries for each in drawn).numpy())[None]


def test_targets_follow_from_what_is_sought_and_offered():
    prompts = own_prompts([[-1, 7, 8, 7, -1]], [[7, 8, 7, 9, 7]])
    assert prompts.targets.nonzero().tolist() == [[0, 1, 0], [0, 2, 1], [0, 3, 0], [0, 3, 2]]
    assert prompts.answers[0, :4].tolist() == [1, 2, 3, 4]
    itself = own_prompts([[-1, 7, -1]], [[-1, 7, -1]])  # a query sees its own position, in the shuffles too
    assert itself.targets.nonzero().tolist() == [[0, 1, 1]] and shuffled_targets(itself, 1)[0].targets.all()


def test_three_words_have_six_orders():
    """A head that finds each of three words is matched by one order in six, one that finds none by all."""
    prompts = own_prompts([[-1, -1, -1, 0, 1, 2, -1]], [[0, 1, 2, -1, -1, -1, -1]])
    right, wrong, even = torch.zeros(3, 7, 7)
    right[[3, 4, 5], [0, 1, 2]] = 1.0
    wrong[[3, 4, 5], 6] = 1.0
    even[:] = 1 / 7
    drawn = scores_by_draw(prompts, torch.stack([right, wrong, even])[None])
    assert drawn[0, :, 0].tolist() == pytest.approx([1.0, 0.0, 1 / 7])
    found = against_shuffles(drawn)
    p, shuffled = found["fuzzy_matching_p"][0], found["fuzzy_matching_shuffled"][0]
    assert p[0] == pytest.approx(1 / 6, abs=0.05) and p[1:].tolist() == [1.0, 1.0]
    assert shuffled.tolist() == pytest.approx([1 / 3, 0.0, 1 / 7], abs=0.05)  # one fixed point in three, on average
    # Draws that score as the right order does, of all draws with the own one.
    n_right = int((drawn[0, 0, 1:] == 1).sum())
    assert p[0] == (1 + n_right) / 1000


def test_shuffles_count_only_queries_that_have_a_target():
    """Offers behind a query are no targets, in the shuffles either."""
    prompts = own_prompts([[-1, 5, -1, 6, -1]], [[5, -1, 6, -1, -1]])
    [drawn] = shuffled_targets(prompts, 50)
    assert drawn.queries.tolist() == [1, 3] and drawn.keys.tolist() == [0, 2]
    seen = {tuple(map(tuple, each.tolist())) for each in drawn.targets}
    assert seen == {((True, False), (False, True)), ((False, False), (True, False))}
    assert set(zip(drawn.n_queries.tolist(), drawn.targets[:, 0, 0].tolist())) == {(2, True), (1, False)}


def habits(prompts: MatchingPrompts, n_heads: int, seed: int) -> torch.Tensor:
    """Heads that know nothing of pairs, but prefer some places, recent ones or some labels."""
    generator = torch.Generator().manual_seed(seed)
    n, length = prompts.tokens.shape
    place = torch.randn(n, n_heads, 1, length, generator=generator)
    label = torch.randn(n_heads, prompts.tokens.max() + 1, generator=generator)[:, prompts.tokens].transpose(0, 1)
    recent = -torch.rand(n_heads, 1, 1, generator=generator) * torch.arange(length).flip(0)
    scores = 2 * place + label[:, :, None] + recent
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    return scores.expand(-1, -1, length, -1).masked_fill(~mask, -torch.inf).softmax(-1)


def test_heads_with_habits_alone_are_not_surprising():
    """Known negative: p is even between 0 and 1, and among all heads seldom one has a small `p_any`."""
    p, p_any = [], []
    for seed in range(12):
        prompts = category_prompts(word_level(), BOS, n_sequences=2, seed=seed)
        found = against_shuffles(scores_by_draw(prompts, habits(prompts, 30, seed), 199))
        p.append(found["fuzzy_matching_p"])
        p_any.append(found["fuzzy_matching_p_any"].min())
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(p_any) <= 0.05) < 0.25


def test_a_head_that_knows_the_categories_stands_out_among_habits():
    """Known positive: it shifts a quarter of what it gives labels to those of the same pair, by hand."""
    prompts = category_prompts(word_level(), BOS, n_sequences=4)
    pattern = habits(prompts, 30, 0)
    right = prompts.targets.float()
    share = 0.25 * prompts.queries.float()[:, :, None]
    right = right / right.sum(-1, keepdim=True).clamp_min(1)
    pattern[:, 7] = (1 - share) * pattern[:, 7] + share * right
    drawn = scores_by_draw(prompts, pattern)
    found = against_shuffles(drawn)
    np.testing.assert_allclose(drawn[0, :, 0], fuzzy_matching(pattern, prompts), rtol=1e-5)
    assert found["fuzzy_matching_p"][0, 7] == found["fuzzy_matching_p_any"][0, 7] == 0.001
    assert np.delete(found["fuzzy_matching_p_any"][0], 7).min() > 0.01


def test_heads_that_cannot_be_scored_stay_unknown():
    drawn = np.random.default_rng(0).random((2, 3, 50))
    drawn[1] = np.nan
    for values in against_shuffles(drawn).values():
        assert np.isfinite(values[0]).all() and np.isnan(values[1]).all()


# Scans


LETTERS = ["abc", "defg", "hij", "kl", "mnop", "qrs", "tuv", "wxyz"]


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_literal_head_copies_token_by_token(shuffled):
    """Of letters that come in one word each it attends to the first of the next word, and never to its last."""
    first, last = (
        scan_fuzzy(
            perfect_induction_model(),
            word_list_prompts(by_letter(), BOS, LETTERS, place, n_words=8, n_sequences=3, shuffled=shuffled),
        ).sel(layer=1, head=0)
        for place in ("first", "last")
    )
    assert first.fuzzy_matching == pytest.approx(1, abs=1e-4) and last.fuzzy_matching == pytest.approx(0, abs=1e-4)
    assert first.fuzzy_matching_p == first.fuzzy_matching_p_any == 0.001
    assert first.fuzzy_matching_shuffled == pytest.approx(1 / 8, abs=0.02)
    assert last.fuzzy_matching_p > 0.1


def test_scans_in_parts_and_along_runs_find_the_same(monkeypatch):
    model, prompts = random_model(0), word_list_prompts(by_letter(), BOS, LETTERS, n_words=6, n_sequences=4)
    found = scan_fuzzy(model, prompts, n_nulls=1)
    assert {"fuzzy_matching_p", "fuzzy_matching_p_any", "fuzzy_matching_shuffled"} <= set(found)
    assert found.fuzzy_matching_p_null.dims == ("null", "layer", "head") and found.attrs["n_shuffles"] == 999
    patterns = {}
    Lens(model).visit_attention(prompts.tokens, lambda layer, pattern, _: patterns.update({layer: pattern.clone()}))
    expected = against_shuffles(np.concatenate([scores_by_draw(prompts, patterns[layer]) for layer in (0, 1)]))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-3)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    halved = {name: 0.5 * tensor for name, tensor in weights.items()}
    run = ik.open_run([(0, lambda: halved), (1, lambda: weights)], model=random_model(1))
    history = scan_fuzzy(run, prompts, progress=False)
    assert history.fuzzy_matching_p.dims == ("step", "layer", "head")
    np.testing.assert_array_equal(history.fuzzy_matching_p.sel(step=1), found.fuzzy_matching_p)
    monkeypatch.setattr(Lens, "batches", lambda self, tokens: list(tokens.split(3)))
    np.testing.assert_allclose(scan_fuzzy(model, prompts).fuzzy_matching_p, found.fuzzy_matching_p, atol=2e-3)


# Ablations


def test_zeroing_heads_raises_the_loss_on_what_they_predict():
    prompts = word_list_prompts(by_letter(), BOS, LETTERS, n_words=8, n_sequences=3)
    model = hand_built_model([["previous-token", "idle", "idle"], ["idle", "induction", "idle"]])
    found = compare_on_prompts(model, prompts, ["1.1"], progress=False)
    # The current token has the logit 1 by itself, the right one by the induction head, and the other 38 have 0.
    clean, zeroed = math.log(38 + 2 * math.e) - 1, math.log(39 + math.e)
    assert found.baseline_loss.values == pytest.approx([clean, clean], abs=1e-4)
    assert found.loss_rise.values == pytest.approx([zeroed - clean] * 2, abs=1e-4)
    assert found.random_loss_rise.shape == (2, 2) and found.random_loss_rise.values == pytest.approx(0, abs=1e-6)
    assert found.p.values.tolist() == [1 / 3, 1 / 3] and found.counted.values.tolist() == list(prompts.counted)
    idle = compare_on_prompts(model, prompts, ["1.0"], progress=False)
    assert idle.loss_rise.values == pytest.approx(0, abs=1e-6) and (idle.p > 1 / 3).all()


def test_losses_are_those_of_the_counted_tokens():
    model, prompts = random_model(3), word_list_prompts(by_letter(), BOS, LETTERS, n_words=5, n_sequences=3)
    found = compare_on_prompts(model, prompts, ["0.1", "1.2"], n_draws=4, progress=False)

    def zero(head):
        def hook(z, hook):
            z = z.clone()
            z.view(*z.shape[:2], 3, -1)[:, :, head] = 0
            return z

        return hook

    clean = Lens(model).token_losses(prompts.tokens)
    hooks = [("blocks.0.attn.hook_z", zero(1)), ("blocks.1.attn.hook_z", zero(2))]
    with model.hooks(fwd_hooks=hooks):
        zeroed = Lens(model).token_losses(prompts.tokens)
    for name, marks in prompts.counted.items():
        at = found.sel(counted=name)
        assert float(at.baseline_loss) == pytest.approx(clean[marks[:, 1:]].mean().item(), abs=1e-5)
        assert float(at.loss_rise) == pytest.approx((zeroed - clean)[marks[:, 1:]].mean().item(), abs=1e-5)
        n_as_high = int((at.random_loss_rise >= at.loss_rise).sum())
        assert float(at.p) == pytest.approx((1 + n_as_high) / (1 + len(at.draw)))


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: category_prompts(None, 0), "a NoneType is no tokenizer"),
        (lambda: category_prompts("gpt2", 0), "a str is no tokenizer"),
        (lambda: category_prompts(by_letter("abc"), 0), "knows no word of class 0"),
        (lambda: category_prompts(word_level(), 0, CLASSES[:3]), "4 classes of words and 4 labels; seen 3 and 4"),
        (lambda: category_prompts(word_level(), 0, (MONTHS, MONTHS, ANIMALS, FRUITS)), "is in the classes twice"),
        (lambda: category_prompts(word_level(), 0, (["x"], COLOURS, ANIMALS, FRUITS)), "knows no word of class 0"),
        (lambda: category_prompts(word_level(), 0, labels=["0", "1", "2", "9"]), "labels=.* give four that differ"),
        (lambda: category_prompts(word_level(), 0, labels=["0", "1", "2", "2"]), "give four that differ"),
        (lambda: category_prompts(byte_level(257), 0, labels=["ab", "cd", "ef", "gh"]), "give four that differ"),
        (lambda: category_prompts(word_level(), 0, n_repeats=1), "n_repeats=1 must be a whole number of at least 2"),
        (lambda: category_prompts(word_level(), -1), "bos=-1 must be"),
        (lambda: category_prompts(word_level(), 0, ([1, 2], COLOURS, ANIMALS, FRUITS)), "1 is no word; give strings"),
        (lambda: word_list_prompts(by_letter(), 0, [*LETTERS, 7]), "7 is no word; give strings"),
        (lambda: word_list_prompts(word_level(), 0), "spells 0 of the words .* fewer than n_words=20"),
        (lambda: word_list_prompts(by_letter(), 0, LETTERS), "spells 8 of the words"),
        (lambda: word_list_prompts(by_letter(), 0, ["ab"] * 30), "spells 1 of the words"),
        (lambda: word_list_prompts(by_letter(), 0, LETTERS, "middle"), "place='middle': there are 'last' and 'first'"),
        (lambda: own_prompts([[-1, 0, 1]], [[0, 1, -1]]), "last position"),
        (lambda: own_prompts([[-1, 3, -1]], [[0, 1, -1]]), "no query has a target"),
        (lambda: own_prompts([[-1, 0, -1]], [[0, 1]]), r"offered must be a torch.int64 tensor .* \(1, 2\)"),
        (lambda: own_prompts([[-1, 0, -1]], [[0.0, 1.0, 2.0]]), "offered must be a torch.int64 tensor"),
        (lambda: own_prompts([[-1, 0, -1]], [[0, -1, -1]], tokens=[[1, 2, 3]]), "tokens must be a torch.int64 tensor"),
        (
            lambda: own_prompts([[-1, 0, -1]], [[0, -1, -1]], counted={"all": torch.ones(1, 3, dtype=torch.bool)}),
            r"counted\['all'\] must mark at least one token, and no first one",
        ),
        (
            lambda: own_prompts([[-1, 0, -1]], [[0, -1, -1]], counted={"all": torch.ones(1, 2, dtype=torch.bool)}),
            r"counted\['all'\] must be a torch.bool tensor",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ModelError, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_ablations_refuse_what_they_cannot_measure():
    prompts = word_list_prompts(by_letter(), BOS, LETTERS, n_words=5, n_sequences=2)
    with pytest.raises(ModelError, match=r"names head 1\.3"):
        compare_on_prompts(random_model(), prompts, ["1.3"])
    with pytest.raises(ModelError, match="the prompts count no tokens"):
        compare_on_prompts(random_model(), own_prompts([[-1, 0, -1]], [[0, -1, -1]]), ["1.0"])
    with pytest.raises(ModelError, match="the prompts count no tokens"):
        compare_on_prompts(random_model(), torch.zeros(2, 5, dtype=torch.long), ["1.0"])
    with pytest.raises(ModelError, match="kind='half'"):
        compare_on_prompts(random_model(), prompts, ["1.0"], kind="half")
    with pytest.raises(ModelError, match="leave the vocabulary"):
        compare_on_prompts(random_model(d_vocab=20), prompts, ["1.0"])
