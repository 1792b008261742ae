"""Texts as strings: rows of one length, with every token of the text in order, cut where the docstring says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import inductionkit as ik
from inductionkit.errors import ModelError
from inductionkit.lens import Lens
from inductionkit.scan.held_out import held_out_rows
from inductionkit.scan.texts import N_DEFAULT_ROWS, default_text_rows, text_rows

BOS, EOS, FIRST = 0, 1, 4  # the letters follow
SPECIAL = {"<s>": BOS, "</s>": EOS, "<unk>": 2, "<beyond>": 10_000}


def letters() -> Tokenizer:
    """Each letter is a token, 4 for "a"; spaces are left out."""
    vocabulary = SPECIAL | {letter: FIRST + place for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.normalizer = None
    return tokenizer


def carrying(tokenizer: object, **changes: int) -> Lens:
    model = random_model(**changes)
    model.tokenizer = tokenizer
    return Lens(model)


def of_transformers(**special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=letters(), unk_token="<unk>", **special)


KINDS = {
    "with both": (of_transformers(bos_token="<s>", eos_token="</s>"), BOS, EOS),
    "with one token for both": (of_transformers(bos_token="<s>", eos_token="<s>"), BOS, BOS),
    "without an end": (of_transformers(bos_token="<s>"), BOS, BOS),
    "without a start": (of_transformers(eos_token="</s>"), None, EOS),
    "with neither": (of_transformers(), None, None),
    "of tokenizers": (letters(), None, None),
}


@pytest.fixture(scope="module")
def lenses() -> dict[str, Lens]:
    return {kind: carrying(tokenizer, n_ctx=300) for kind, (tokenizer, _, _) in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.text("abcxyz", max_size=300), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_every_token_in_its_order(kind, lenses, strings):
    """Nothing but the last few tokens is lost, and rows are as long as they can be."""
    _, bos, between = KINDS[kind]
    stream: list[int] = []
    for string in filter(None, strings):
        stream += [between] if stream and between is not None else []
        stream += [FIRST + ord(letter) - ord("a") for letter in string]
    n_own = 256 - (bos is not None)
    if len(stream) + (bos is not None) < 2 or not stream:
        with pytest.raises(ModelError, match=f"text has {len(stream)} tokens"):
            text_rows(lenses[kind], strings)
        return
    rows = text_rows(lenses[kind], strings)
    assert rows.dtype == np.int64 and len(rows) == math.ceil(len(stream) / n_own) and rows.shape[1] <= 256
    if bos is not None:
        assert (rows[:, 0] == bos).all()
        rows = rows[:, 1:]
    flat = rows.ravel().tolist()
    assert flat == stream[: len(flat)] and len(stream) - len(flat) < len(rows)


def test_one_string_is_a_list_of_one(lenses):
    lens = lenses["with both"]
    assert text_rows(lens, "cab").tolist() == text_rows(lens, ["cab"]).tolist() == [[BOS, 6, 4, 5]]
    assert text_rows(lens, (string for string in ("ca", "", "b"))).tolist() == [[BOS, 6, 4, EOS, 5]]


def test_a_context_that_is_shorter():
    rows = text_rows(carrying(KINDS["with both"][0], n_ctx=32), "a" * 62 + "b")
    assert rows.shape == (3, 22) and rows[-1, -1] == FIRST + 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "text has 0 tokens"),
        ([], "text has 0 tokens"),
        (b"abc", "text is a bytes; give a string or a list of strings"),
        (7, "text is a int"),
        ({"text": "abc"}, "text is a dict"),
        ([[4, 5, 6]], r"text holds a list; give strings, and token ids as held_out="),
        ("abc<beyond>", "leave the vocabulary 0 to 59"),
    ],
)
def test_what_is_no_text(text, why, lenses):
    tokenizer = of_transformers(bos_token="<s>", additional_special_tokens=["<beyond>"])
    with pytest.raises(ModelError, match=why):
        text_rows(carrying(tokenizer), text)


def test_without_a_tokenizer():
    with pytest.raises(ModelError, match=r"carries no tokenizer for a text; pass token ids .* as held_out="):
        text_rows(Lens(random_model()), "abc")
    assert default_text_rows(Lens(random_model())) is None


def test_the_text_of_the_package(lenses):
    """Ordinary prose: names and phrases come again, as a head that looks for them needs it."""
    lens = lenses["with both"]
    rows = default_text_rows(lens)
    assert rows.shape[1] > 250 and len(rows) >= 8
    letters_seen = set(rows.ravel().tolist())
    assert {FIRST + place for place in range(26)} - letters_seen <= {FIRST + ord("z") - ord("a")}
    scores = ik.scan_heads(lens.model, held_out_rows(rows, lens, min_length=2), progress=False)
    assert np.isfinite(scores.previous_token).all()
    assert torch.isfinite(lens.token_losses(torch.from_numpy(rows[:1]))).all()


def test_a_scan_takes_strings_and_has_a_text_of_its_own():
    lens = carrying(letters(), d_vocab=64)
    told = ik.scan_heads(lens, text="some words of one text", scores=["previous_token"])
    ids = ik.scan_heads(lens, text_rows(lens, "some words of one text"), scores=["previous_token"])
    np.testing.assert_array_equal(told.previous_token, ids.previous_token)
    by_default = ik.scan_heads(lens, scores=["previous_token"])
    rows = default_text_rows(lens)[:N_DEFAULT_ROWS]
    own = ik.scan_heads(lens, rows, scores=["previous_token"])
    np.testing.assert_array_equal(by_default.previous_token, own.previous_token)
    with pytest.raises(ModelError, match="pass one, token ids or strings"):
        ik.scan_heads(lens, own, text="both")
    with pytest.raises(ModelError, match="carries no tokenizer"):
        ik.scan_heads(random_model(), text="without")
