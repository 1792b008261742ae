"""How the scores of one model show themselves: as text exactly, as HTML by what a parser finds in it."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from inductionkit.display import heat_maps
from inductionkit.display.head_scores import HeadScores

DIMS = ("layer", "head")
MARKUP = """</pre></style><script>alert(1)</script><img src=x onerror="alert(2)">&'" onload=alert(3)"""
HOSTILE = f"{MARKUP}\n\x1b[31m\u202e\ud800"
HARMLESS = f"{MARKUP}\ufffd\ufffd[31m\ufffd\ufffd"
NAMES = (
    "prefix_matching", "copying", "logit_lift", "previous_token", "duplicate_token",
    "ov_copying", "qk_trace", "k_composition", "q_composition", "v_composition",
)  # fmt: skip


def head_scores(**scores) -> HeadScores:
    return HeadScores(
        {name: (DIMS, np.asarray(values, np.float32), {"units": "1"}) for name, values in scores.items()},
        {dim: np.arange(n) for dim, n in zip(DIMS, np.shape(next(iter(scores.values()))))},
    )


def random_scores(n_layers: int, n_heads: int, names=NAMES) -> HeadScores:
    rng = np.random.default_rng(0)
    return head_scores(**{name: rng.uniform(-1, 1, (n_layers, n_heads)) for name in names})


def with_null(scores: HeadScores, name: str, null) -> HeadScores:
    return scores.assign({f"{name}_null": (("null", *DIMS), np.asarray(null, np.float32))})


@dataclass
class Map:
    cells: dict[tuple[int, int], str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    overlays: dict[str, str] = field(default_factory=dict)


class Shown(HTMLParser):
    """What there is in an HTML text: tags, attributes, text, and the heat maps with their cells' classes."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, list[str]] = {}
        self.texts: list[str] = []
        self.table: list[list[str]] = []
        self.maps: list[Map] = []
        self._inside: list[str] = []
        self.feed(html)
        self.text = "\n".join(self.texts)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._inside.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value)
        attributes = dict(attrs)
        if tag == "figure":
            self.maps.append(Map())
        elif tag == "tr":
            self.table.append([])
        elif tag in ("td", "th"):
            self.table[-1].append("")
        elif tag == "path" and "figure" in self._inside:
            if attributes["class"].startswith("ik-"):
                self.maps[-1].overlays[attributes["class"]] = attributes["d"]
            else:
                for head, layer in re.findall(r"M(\d+) (\d+)h1", attributes["d"]):
                    self.maps[-1].cells[int(layer), int(head)] = attributes["class"]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" in self._inside:
            return
        self.texts.append(data)
        if "title" in self._inside:
            self.maps[-1].names.append(data)
        if self._inside and self._inside[-1] in ("td", "th", "br") and self.table:
            self.table[-1][-1] += f" {data}" if self._inside[-1] == "br" else data


def level(cell: str) -> int:
    return {"p": 1, "n": -1}[cell[0]] * int(cell[1:])


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, after WCAG 2."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_text_of_a_small_model():
    scores = head_scores(
        prefix_matching=[[0.004, 0.0], [0.91, 0.25]],
        logit_lift=[[-0.04, 1], [30.66, 2]],
        qk_trace=[[np.nan, np.nan], [1234, -5]],
        previous_token=np.full((2, 2), np.nan),
    )
    scores["logit_lift"].attrs["units"] = "nats"
    scores.attrs |= {"model": "two-layer", "unscored": json.dumps({"previous_token": "no text was given"})}
    scores = with_null(scores, "prefix_matching", [[[0.01, 0.02], [0.03, 0.02]]])
    assert repr(scores).splitlines() == [
        "<HeadScores> two-layer: 2 layers of 2 heads, in order of prefix_matching",
        "                    1.0   1.1   0.0   0.1         range         nulls",
        "prefix_matching    0.91  0.25  0.00  0.00  0.00 to 0.91  0.01 to 0.03",
        "logit_lift (nats)  30.7   2.0   0.0   1.0   0.0 to 30.7",
        "qk_trace           1234    -5   nan   nan    -5 to 1234",
        "previous_token      nan   nan   nan   nan    not scored",
        "not scored: previous_token: no text was given",
    ]


def test_text_of_a_large_model_names_its_strongest_heads():
    values = np.zeros((12, 16))
    strong = [(5, 1), (11, 15), (0, 7), (6, 9), (7, 2), (7, 10), (8, 3), (9, 9), (10, 0)]
    for rank, index in enumerate(strong):
        values[index] = 0.95 - rank / 20
    title, heads, row = repr(head_scores(copying=-values, prefix_matching=values)[["prefix_matching"]]).splitlines()
    assert title == "<HeadScores> 12 layers of 16 heads, the first 8 of 192 in order of prefix_matching"
    assert heads.split()[:-1] == [f"{layer}.{head}" for layer, head in strong[:8]]
    assert row.split() == "prefix_matching 0.95 0.90 0.85 0.80 0.75 0.70 0.65 0.60 0.00 to 0.95".split()


def test_noise_in_digits_not_shown_changes_nothing():
    rng = np.random.default_rng(0)
    values = rng.integers(-5, 6, (4, 8)) / 10  # several heads share each value
    noisy = [values + noise for noise in rng.normal(0, 1e-7, (5, 4, 8))]
    texts = {repr(head_scores(copying=v, prefix_matching=np.abs(v))) for v in noisy}
    assert len(texts) == 1
    assert "-0.00" not in texts.pop()


def test_without_prefix_matching_the_first_score_orders_and_unknown_heads_come_last():
    scores = head_scores(qk_trace=[[np.nan, 2.0], [np.nan, 7.0]], copying=[[1, 1], [1, 1]])
    assert repr(scores).splitlines()[1].split() == ["1.1", "0.1", "0.0", "1.0", "range"]


def test_labels_are_those_of_the_layers_and_heads_kept():
    kept = random_scores(6, 8).isel(layer=[1, 4], head=[7, 2])
    assert set(repr(kept).splitlines()[1].split()) == {"1.7", "1.2", "4.7", "4.2", "range"}
    shown = Shown(kept._repr_html_())
    assert [name.split(":")[0] for name in shown.maps[0].names] == ["1.7", "1.2", "4.7", "4.2"]


def test_cells_stand_where_their_heads_do():
    values = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    (shown,) = Shown(head_scores(prefix_matching=values)._repr_html_()).maps
    assert {index: level(cell) for index, cell in shown.cells.items()} == {
        (layer, head): round(32 * values[layer, head]) for layer in range(2) for head in range(3)
    }
    assert shown.names == ["0.0: 0.10", "0.1: 0.20", "0.2: 0.30", "1.0: 0.40", "1.1: 0.50", "1.2: 0.60"]


@pytest.mark.parametrize("name", ["prefix_matching", "copying", "qk_trace"])
def test_colours_are_in_the_order_of_the_values(name):
    values = np.linspace(0 if name == "prefix_matching" else -1, 1, 96).reshape(8, 12)
    (shown,) = Shown(head_scores(**{name: values})._repr_html_()).maps
    levels = [level(shown.cells[index]) for index in np.ndindex(8, 12)]
    assert levels == sorted(levels)
    assert levels[0] == (0 if name == "prefix_matching" else -32)
    assert levels[-1] == 32
    assert np.abs(np.array(levels) / 32 - values.ravel()).max() <= 0.5 / 32 + 1e-7


@pytest.mark.parametrize("sign", ["p", "n"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_level_stands_out_more_from_the_ground_than_the_one_before(sign, theme):
    style = head_scores(copying=[[0]])._repr_html_().split("</style>")[0]
    colours = [
        re.search(rf"\.{sign}{at}{{stroke:light-dark\((#\w{{6}}),(#\w{{6}})\)}}", style)[1 + (theme == "dark")]
        for at in range(33)
    ]
    seen = np.array([luminance(colour) for colour in colours])
    assert (np.diff(seen) * (1 if theme == "dark" else -1) > 0).all()
    # Above zero is blue, below it orange, whatever the lightness.
    for colour in colours[8:]:
        red, blue = int(colour[1:3], 16), int(colour[5:7], 16)
        assert (blue > red) == (sign == "p")


@pytest.mark.parametrize(("name", "first"), [("unsigned", "p0"), ("signed", "n32")])
def test_a_scale_ends_in_the_colours_of_the_cells_there(name, first):
    style = head_scores(copying=[[0]])._repr_html_().split("</style>")[0]
    start, end = (re.search(rf"\.{cell}{{stroke:(.*?)}}", style)[1] for cell in (first, "p32"))
    (bar,) = re.findall(rf"\.ik-scores-{name}{{--ik-ramp:linear-gradient\(90deg,(.*?)\)}}", style)
    assert bar.startswith(start)
    assert bar.endswith(end)


def test_scales_are_known_ranges_or_reach_the_greatest_magnitude():
    shown = Shown(
        head_scores(
            prefix_matching=[[0.5, 0.1]], copying=[[0.5, 0.1]], qk_trace=[[40, 20]], logit_lift=[[-8, 4]]
        )._repr_html_()
    )
    assert [level(m.cells[0, 0]) for m in shown.maps] == [16, 16, 32, -32]
    scales = [text.split("\n") for text in re.findall(r"\S+\n\S+(?=\n|$)", shown.text)]
    for ends in (["0.00", "1.00"], ["-1.00", "1.00"], ["0.0", "40.0"], ["-8.00", "8.00"]):
        assert ends in scales


def test_arithmetic_may_leave_the_range():
    doubled = head_scores(prefix_matching=[[0.2, 0.9]]) * 2
    lowered = head_scores(prefix_matching=[[0.2, 0.9]]) - 0.6
    assert [level(c) for c in Shown(doubled._repr_html_()).maps[0].cells.values()] == [round(32 * 0.4 / 1.8), 32]
    assert level(Shown(lowered._repr_html_()).maps[0].cells[0, 0]) == round(32 * -0.4)


def test_what_is_not_scored_is_hatched_and_said():
    scores = head_scores(prefix_matching=[[0.5, np.nan], [np.nan, 0.1]], copying=[[1, 1], [1, 1]])
    scores.attrs["unscored"] = json.dumps({"layer 1": "its heads are recurrent"})
    shown = Shown(scores._repr_html_())
    assert [index for index, cell in shown.maps[0].cells.items() if cell == "x"] == [(0, 1), (1, 0)]
    assert shown.maps[0].overlays["ik-scores-hatch"].count("M") == 2
    assert "ik-scores-hatch" not in shown.maps[1].overlays
    assert "not scored (layer 1: its heads are recurrent)" in shown.text
    assert shown.table[1:] == [
        ["0.0", "0.50", "1.00"], ["1.1", "0.10", "1.00"], ["0.1", "–", "1.00"], ["1.0", "–", "1.00"],
    ]  # fmt: skip
    whole = Shown(head_scores(copying=[[1, 1]])._repr_html_())
    assert "not scored" not in whole.text


def test_unreadable_reasons_do_not_keep_scores_from_showing():
    for reasons in ("{", "[1]", "7", "[" * 100_000, 3.5):
        scores = head_scores(copying=[[np.nan, 1]]).assign_attrs(unscored=reasons)
        assert "not scored:" not in repr(scores)
        assert "copying" in Shown(scores._repr_html_()).text


def test_heads_beyond_every_null_value_are_outlined():
    values = np.zeros((4, 5))
    values[1, 1], values[3, 3], values[3, 4] = 0.5, -0.5, -0.6
    null = np.full((3, 4, 5), 0.1)
    null[0, 0, 0], null[2, 3, 4] = 0.4, -0.4
    signed = Shown(with_null(head_scores(copying=values), "copying", null)._repr_html_())
    # A head alone has four edges, two neighbours have six.
    assert signed.maps[0].overlays["ik-scores-beyond"].count("M") == 4 + 6
    edges = set(re.findall(r"M\d+ \d+[hv]22", signed.maps[0].overlays["ik-scores-beyond"]))
    assert {"M22 22h22", "M22 44h22", "M22 22v22", "M44 22v22"} <= edges
    assert "beyond every null value" in signed.text
    # Below the nulls is nothing remarkable for a score that begins at zero.
    matching = np.abs(values) * (values > 0) + 0.01
    unsigned = Shown(with_null(head_scores(prefix_matching=matching), "prefix_matching", np.abs(null))._repr_html_())
    assert unsigned.maps[0].overlays["ik-scores-beyond"].count("M") == 4


def test_nothing_is_outlined_without_nulls_or_within_them():
    values = np.random.default_rng(0).uniform(-1, 1, (4, 5))
    plain = Shown(head_scores(copying=values)._repr_html_())
    within = Shown(with_null(head_scores(copying=values), "copying", values[None])._repr_html_())
    unknown = Shown(with_null(head_scores(copying=values), "copying", np.full((2, 4, 5), np.nan))._repr_html_())
    for shown in (plain, within, unknown):
        assert "ik-scores-beyond" not in shown.maps[0].overlays
    assert "null" not in plain.text
    assert len(within.maps) == 1


def test_a_hostile_file_cannot_leave_the_text():
    scores = HeadScores(
        {
            HOSTILE: (DIMS, [[0.5, np.nan]], {"units": HOSTILE, "long_name": HOSTILE}),
            f"{HOSTILE}_null": (("null", *DIMS), [[[0.1, 0.2]]]),
        },
        {"layer": [HOSTILE], "head": [HOSTILE, "1"]},
        {"model": HOSTILE, "unscored": json.dumps({HOSTILE: HOSTILE})},
    )
    html = scores._repr_html_()
    shown = Shown(html)
    plain = Shown(with_null(random_scores(1, 2).assign_attrs(model="m"), "copying", [[[0, 0]]])._repr_html_())
    assert shown.tags <= plain.tags
    assert set(shown.attributes) <= set(plain.attributes)
    assert shown.texts.count(HARMLESS) >= 2  # the model's name and the unit
    assert HARMLESS in shown.attributes["title"]
    html.encode()
    title, *lines = repr(scores).splitlines()
    assert title.startswith(f"<HeadScores> {HARMLESS}: 1 layer of 2 heads")
    assert len(lines) == 3


def test_it_asks_for_nothing_and_runs_nothing():
    html = with_null(random_scores(3, 4), "copying", np.zeros((2, 3, 4)))._repr_html_()
    shown = Shown(html)
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & shown.tags
    assert not {"src", "href", "xlink:href", "id"} & set(shown.attributes)
    assert not any(name.startswith("on") for name in shown.attributes)
    assert not re.search(r"url\(|@import|https?:", html)


def test_where_styles_are_stripped_the_text_stands():
    scores = random_scores(3, 4)
    html = scores._repr_html_()
    stripped = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    text, hidden = stripped.split('<div class="ik-scores" style="display:none')
    assert Shown(text).text == repr(scores)
    assert "display:" not in text
    assert "<svg" in hidden


def test_each_map_says_what_it_shows():
    scores = head_scores(prefix_matching=[[0.1, 0.2], [0.9, 0.3]], copying=np.full((2, 2), np.nan))
    shown = Shown(scores._repr_html_())
    assert set(shown.attributes["role"]) == {"img"}
    assert shown.attributes["aria-label"] == [
        "prefix matching by layer and head: 0.10 to 0.90, highest in head 1.0",
        "copying by layer and head: not scored",
    ]


def test_without_names_the_cells_are_the_same(monkeypatch):
    scores = random_scores(5, 7)
    scores["qk_trace"][0] = np.nan
    named = Shown(scores._repr_html_())
    monkeypatch.setattr(heat_maps, "MAX_NAMED_CELLS", 5 * 7 * len(NAMES) - 1)
    unnamed = Shown(scores._repr_html_())
    assert [m.cells for m in unnamed.maps] == [m.cells for m in named.maps]
    assert [len(m.names) for m in named.maps] == [35] * 10
    assert [len(m.names) for m in unnamed.maps] == [0] * 10


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "n_bytes"), [(12, 12, 150_000), (32, 32, 1_000_000), (80, 64, 1_000_000)]
)
def test_it_stays_small(n_layers, n_heads, n_bytes):
    scores = random_scores(n_layers, n_heads)
    for name in NAMES:
        scores = with_null(scores, name, scores[name].values[None] / 2)
    html = scores._repr_html_()
    assert [len(m.cells) for m in Shown(html).maps] == [n_layers * n_heads] * 10
    assert len(html.encode()) < n_bytes
    assert len(repr(scores)) < 2_000


def test_it_stays_what_it_is_through_xarray():
    scores = random_scores(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = {
            "sel": scores.sel(layer=[0, 2]),
            "isel": scores.isel(head=slice(2)),
            "choose": scores[["copying", "prefix_matching"]],
            "attrs": scores.assign_attrs(model="m"),
            "assign": scores.assign(twice=scores.copying * 2),
            "arithmetic": scores * 2 - 1,
            "comparison": scores > 0.5,
            "pickle": pickle.loads(pickle.dumps(scores)),
            "copy": scores.copy(),
            "deepcopy": copy.deepcopy(scores),
            "concat": xr.concat([scores.isel(layer=[0]), scores.isel(layer=[1, 2])], dim="layer"),
        }
        for how, result in kept.items():
            assert type(result) is HeadScores, how
            assert repr(result).startswith("<HeadScores> "), how
            assert "<figure>" in result._repr_html_(), how
    for how in ("pickle", "copy", "deepcopy", "concat"):
        xr.testing.assert_identical(kept[how], scores)
    np.testing.assert_allclose(kept["arithmetic"].copying, scores.copying.values * 2 - 1, rtol=1e-6)


def test_what_has_no_layer_and_head_shows_itself_as_xarray_does():
    scores = with_null(random_scores(3, 4), "copying", np.zeros((2, 3, 4)))
    others = [
        scores.sel(layer=1, head=2),
        scores.sel(layer=1),
        scores.mean("head"),
        scores.expand_dims(step=[10]),
        scores.transpose("head", "layer", "null"),
        scores.isel(head=[]),
        scores[[]],
        scores[["copying_null"]],
        scores.assign(name=(DIMS, np.full((3, 4), "text"))),
        scores.assign(loss=3.5),
    ]
    for other in others:
        assert repr(other).startswith("<xarray.HeadScores>"), other
        assert "<figure>" not in other._repr_html_()
        assert "xarray.HeadScores" in other._repr_html_()


def test_text_where_xarray_is_set_to_text():
    scores = random_scores(2, 2)
    with xr.set_options(display_style="text"):
        assert Shown(scores._repr_html_()).text == repr(scores)


def test_showing_scores_needs_no_torch():
    program = (
        "import sys, inductionkit.display.head_scores as h\n"
        "h.HeadScores({'copying': (('layer', 'head'), [[0.5]])})._repr_html_()\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "matplotlib"} & set(done.stdout.split())
