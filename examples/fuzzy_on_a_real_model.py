"""Fuzzy induction and the copying of whole words, measured on a language model with a tokenizer.

    python examples/fuzzy_on_a_real_model.py FOLDER [--n-draws 50]

FOLDER is a model as `Lens` takes it, such as a Hugging Face folder. Prints the tables of the documentation's page on
fuzzy induction. A model of 135M parameters takes ten to twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

import inductionkit as ik
from inductionkit.ablation import compare_on_prompts
from inductionkit.lens import Lens
from inductionkit.scores.matching_prompts import NOTHING, MatchingPrompts
from inductionkit.scores.word_lists import ANIMALS, COLOURS, FRUITS, MONTHS
from inductionkit.scores.word_prompts import category_prompts, spelled, word_list_prompts

N_HEADS = (4, 8)  # zeroed together, or as many as stand out
CLASSES = (MONTHS, COLOURS, ANIMALS, FRUITS)
CHOSEN_ON, MEASURED_ON = 0, 1  # seeds: heads are chosen on some prompts, and zeroed on others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--n-draws", type=int, default=50, help="random sets of heads; 0 for no ablations")
    asked = parser.parse_args()
    lens = Lens(asked.folder)
    words = (lens.model.tokenizer, lens.bos)

    print("\nWhat the model can do with categories")
    for shuffled in (False, True):
        what_it_answers(lens, category_prompts(*words, n_sequences=40, seed=MEASURED_ON, shuffled=shuffled))
    print("\nThe same with one word in each category, so that lines repeat literally")
    one_word = (["March"], ["red"], ["dog"], ["apple"])
    what_it_answers(lens, category_prompts(*words, one_word, n_sequences=40, seed=MEASURED_ON))

    print("\nScores and their nulls")
    literal = ik.scan_heads(lens, scores=("prefix_matching",), progress=False).prefix_matching
    tasks = {
        "category_matching": category_prompts,
        "concept_matching": lambda *args, **kwargs: word_list_prompts(*args, place="last", **kwargs),
        "token_matching": lambda *args, **kwargs: word_list_prompts(*args, place="first", **kwargs),
    }
    chosen, scores = {}, {}
    for name, task in tasks.items():
        found = ik.scan_fuzzy(lens, task(*words, seed=CHOSEN_ON), n_nulls=1, progress=False)
        control = ik.scan_fuzzy(lens, task(*words, seed=CHOSEN_ON, shuffled=True), progress=False)
        table = found.drop_dims("null").assign(prefix_matching=literal).to_dataframe()
        table["on_shuffled_prompts"] = control.fuzzy_matching.to_series()
        table["above"] = table.fuzzy_matching - table.fuzzy_matching_shuffled
        scores[name] = table
        best = table[table.fuzzy_matching_p_any < 0.01].sort_values("above", ascending=False).head(max(N_HEADS))
        chosen[name] = [f"{layer}.{head}" for layer, head in best.index]
        print(f"\n{name}: {int((table.fuzzy_matching_p < 0.01).sum())} of {len(table)} heads have p < 0.01, ", end="")
        print(f"{int((table.fuzzy_matching_p_any < 0.01).sum())} p_any < 0.01; ", end="")
        n_small = [int((found[f"fuzzy_matching_{p}_null"] < 0.01).sum()) for p in ("p", "p_any")]
        print(f"with matrices drawn at random {n_small[0]} and {n_small[1]}")
        if name == "category_matching":
            by_category(lens, task(*words, seed=CHOSEN_ON), chosen[name])
            of_one_token(lens)
        columns = "fuzzy_matching fuzzy_matching_shuffled fuzzy_matching_p fuzzy_matching_p_any on_shuffled_prompts"
        print(best[[*columns.split(), "prefix_matching"]].round(3).to_string())

    concept, token = scores["concept_matching"], scores["token_matching"]
    both = (concept.fuzzy_matching_p_any < 0.01) & (token.fuzzy_matching_p_any < 0.01)
    print(f"\n{int(both.sum())} heads have p_any < 0.01 in concept matching and in token matching")
    print(f"concept matching above the shuffled one by more than 0.02: {concept.index[concept.above > 0.02].tolist()}")
    for at in (concept.above.idxmax(), token.above.idxmax()):
        last, first = concept.fuzzy_matching[at], token.fuzzy_matching[at]
        print(f"{at[0]}.{at[1]}: {last:.3f} to the last token of the next word, {first:.3f} to its first")
    if not asked.n_draws:
        return

    print("\nRise of the loss with heads zeroed, in nats a token")
    sets = dict.fromkeys((name, tuple(heads[:n])) for name, heads in chosen.items() for n in N_HEADS if heads)
    for name, heads in sets:
        for shuffled in (False, True):
            prompts = tasks[name](*words, seed=MEASURED_ON, shuffled=shuffled)
            found = compare_on_prompts(lens, prompts, heads, n_draws=asked.n_draws, progress=False)
            summary = found[["baseline_loss", "loss_rise", "p"]].to_dataframe()
            summary["random_mean"] = found.random_loss_rise.mean("draw").to_series()
            summary["random_95"] = found.random_loss_rise.quantile(0.95, "draw").to_series()
            print(f"\n{name}: {', '.join(heads)}{', shuffled prompts' if shuffled else ''}")
            print(summary.round(3).to_string(), flush=True)


def what_it_answers(lens: Lens, prompts: MatchingPrompts) -> None:
    """Print, by the number of earlier lines of a pair, how often the label is the likeliest of the four."""
    logits = torch.cat([answers_of(lens, part) for part in prompts.tokens.split(4)])
    sequence, query = (prompts.sought != NOTHING).nonzero().T
    right, n_earlier = prompts.answers[sequence, query], prompts.targets.sum(-1)[sequence, query]
    labels = right.unique()
    log_probs = logits[sequence, query].log_softmax(-1)
    among_labels = log_probs[:, labels].log_softmax(-1)
    is_right = right[:, None] == labels
    print(f"\n{'shuffled' if prompts.settings['shuffled'] else 'true'} labels (of {len(labels)}, chance accuracy 0.25)")
    print("earlier lines of the pair   n  accuracy  loss among the labels  loss")
    for n in n_earlier.unique().tolist():
        some = n_earlier == n
        accuracy = is_right[some].gather(1, among_labels[some].argmax(-1, keepdim=True)).float().mean()
        loss_among = -among_labels[some][is_right[some]].mean()
        loss = -log_probs[some].gather(1, right[some][:, None]).mean()
        print(f"{n:25d} {int(some.sum()):3d} {accuracy:9.3f} {loss_among:22.3f} {loss:5.3f}")
    if not prompts.settings["shuffled"]:
        relations(prompts, sequence, labels[among_labels.argmax(-1)], n_earlier)


def relations(prompts: MatchingPrompts, sequence: torch.Tensor, picked: torch.Tensor, n_earlier: torch.Tensor) -> None:
    """Print how the pair whose label the model picks is related to the line's own; a quarter each is chance."""
    is_label = prompts.offered != NOTHING
    label_of = {
        (i, pair): int(prompts.tokens[i][is_label[i] & (prompts.offered[i] == pair)][0])
        for i in range(len(prompts.tokens))
        for pair in range(4)
    }
    pair_of = {(i, label): pair for (i, pair), label in label_of.items()}
    own = prompts.sought[prompts.sought != NOTHING]
    found = torch.tensor([pair_of[i, label] for i, label in zip(sequence.tolist(), picked.tolist())])
    late = n_earlier >= 3
    by_sequence = (found == own)[late].float().view(len(prompts.tokens), -1).mean(1)
    error = by_sequence.std().item() / len(by_sequence) ** 0.5
    same_first, same_second = (found // 2 == own // 2)[late], (found % 2 == own % 2)[late]
    shares = {
        "both": same_first & same_second,
        "the first word's": same_first & ~same_second,
        "the second word's": same_second & ~same_first,
        "neither": ~same_first & ~same_second,
    }
    text = ", ".join(f"{name} {share.float().mean():.3f}" for name, share in shares.items())
    print(f"from the fourth line of a pair on, accuracy {by_sequence.mean():.3f}, standard error {error:.3f}")
    print(f"there, the picked label's pair shares these categories with the line: {text}")


def by_category(lens: Lens, prompts: MatchingPrompts, heads: list[str]) -> None:
    """Print the attention to labels of earlier lines that share the first word's category, or the second's."""
    kinds = {
        "first word's": lambda pair: pair // 2,
        "second word's": lambda pair: pair % 2,
    }
    print()
    for what, kind in kinds.items():
        sought, offered = (torch.where(ids == NOTHING, ids, kind(ids)) for ids in (prompts.sought, prompts.offered))
        coarse = replace(prompts, sought=sought, offered=offered)
        found = ik.scan_fuzzy(lens, coarse, progress=False)
        for head in heads:
            layer, place = map(int, head.split("."))
            at = found.sel(layer=layer, head=place)
            print(
                f"{head}, labels of lines that share the {what} category: {at.fuzzy_matching:.3f}, shuffled "
                f"{at.fuzzy_matching_shuffled:.3f}, p {at.fuzzy_matching_p:.3f}"
            )


def of_one_token(lens: Lens) -> None:
    """Print what stands out where all lines are of one length, so that a head cannot tell categories by that."""
    tokenizer = lens.model.tokenizer
    spaces = ("", "", " ", " ")
    classes = [
        [word for word in members if len(spelled(tokenizer, space + word)) == 1]
        for space, members in zip(spaces, CLASSES)
    ]
    n_repeats = min(map(len, classes)) // 2
    if n_repeats < 2:
        return
    for seed in range(3):
        prompts = category_prompts(tokenizer, lens.bos, classes, n_repeats=n_repeats, seed=seed)
        found = ik.scan_fuzzy(lens, prompts, progress=False).to_dataframe()
        best = found[found.fuzzy_matching_p_any < 0.01]
        text = [
            f"{layer}.{head} {own:.3f} (shuffled {null:.3f})"
            for (layer, head), own, null in zip(best.index, best.fuzzy_matching, best.fuzzy_matching_shuffled)
        ]
        print(f"words of one token, seed {seed}, p_any < 0.01: {', '.join(text) or 'none'}")


@torch.no_grad()
def answers_of(lens: Lens, tokens: torch.Tensor) -> torch.Tensor:
    return lens.model(tokens.to(lens.device), return_type="logits").float().cpu()


if __name__ == "__main__":
    main()
