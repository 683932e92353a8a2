"""Every number on the page is a number of the tape."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from jax import lax

import fbp
from fbp.show import record, xor
from fbp.show.drawing import edge_width
from fbp.show.page import NUMBER, recording_html
from fbp.show.payload import at, shown
from fbp.show.scenes import scenes


class Reader(HTMLParser):
    """The page's elements: numbers by path, edges by id, the data, the tags."""

    def __init__(self, text):
        super().__init__()
        self.numbers, self.edges, self.tags, self.data = [], {}, [], None
        self._open, self._is_data = None, False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._is_data = attributes.get("id") == "data"
        if "data-path" in attributes:
            self._open = attributes
        if tag == "line" and attributes.get("id", "").startswith("e"):
            self.edges[attributes["id"]] = attributes

    def handle_data(self, text):
        if self._is_data:
            self.data = json.loads(text)
            self._is_data = False
        elif self._open is not None:
            self.numbers.append((self._open["data-path"], self._open["data-kind"], text))
            self._open = None


def read(recording):
    return Reader(recording_html(recording))


@pytest.fixture(scope="module")
def run():
    return record(xor(), seed=1)


@pytest.fixture(scope="module")
def page(run):
    return read(run)


FIRST = {"@s": "0", "@l": "0", "@i": "0", "@j": "0", "@f": "@last"}


def resolved(path):
    return ".".join(FIRST.get(part, part) for part in path.split("."))


def test_the_data_of_every_step_are_the_tape_bit_for_bit(run, page):
    for step, shown_step in zip(run.slow, page.data["steps"], strict=True):
        assert np.float32(shown_step["loss"]) == step.loss
        for layer, numbers in zip(step.layers, shown_step["layers"], strict=True):
            for name, values in numbers.items():
                recorded = getattr(layer, name)
                assert np.array_equal(np.array(values, np.float32), recorded), name
        product = next(e for e in step.entries if (e.scope, e.primitive) == ("layer1", "mul"))
        assert np.array_equal(
            np.array(shown_step["layers"][1]["message"], np.float32), product.in_cts[0]
        )


def test_the_film_is_that_of_the_run(run, page):
    film = page.data["film"]
    assert np.array_equal(np.array(film["losses"], np.float32), run.film.losses)
    for layer, weights in zip(film["weights"], run.film.weights, strict=True):
        assert np.array_equal(np.array(layer["w"], np.float32), weights["w"])


def test_every_visible_number_is_written_as_its_path_says(page):
    assert len(page.numbers) > 150
    for path, kind, text in page.numbers:
        if kind == "number":
            assert text == shown(at(page.data, resolved(path))), path


def test_no_sentence_holds_a_number_without_a_path():
    for scene in scenes(xor()):
        prose = re.sub(r"&#?\w+;|<[^>]+>|h2\.|w_?ij", "", NUMBER.sub("", scene.text))
        assert not re.search(r"\d", prose.replace("(y − t)² / 2", "")), scene.title


def test_edges_are_drawn_by_the_weights_of_the_trained_network(run, page):
    largest = page.data["largest_weight"]
    count = 0
    for number, layer in enumerate(run.film.weights):
        for (i, j), w in np.ndenumerate(layer["w"][-1]):
            edge = page.edges[f"e{number}-{i}-{j}"]
            assert float(edge["stroke-width"]) == edge_width(float(w), largest)
            assert edge["class"] == ("edge neg" if w < 0 else "edge pos")
            count += 1
    assert count == len(page.edges) == 23


def test_a_planted_fault_is_seen_on_the_page(page):
    tripled = fbp.rule.derivative(lax.tanh_p, lambda x, y: 3 * (1 - y * y))
    wrong = read(record(xor(), seed=1, rules=fbp.RULES | tripled))
    path = "steps.0.layers.0.d_w.0.0"
    (right,) = {text for p, _, text in page.numbers if p == "steps.@s.layers.0.d_w.0.0"}
    (shown_wrong,) = {text for p, _, text in wrong.numbers if p == "steps.@s.layers.0.d_w.0.0"}
    assert right != shown_wrong
    assert at(wrong.data, path) == pytest.approx(9 * at(page.data, path), rel=1e-5)


def test_the_six_steps_of_the_article_are_named_where_they_happen():
    steps = ", ".join(scene.step for scene in scenes(xor()))
    for name in (
        "build",
        "random weights",
        "feed forward",
        "set the input",
        "difference",
        "adjust",
    ):
        assert name in steps


def test_the_page_needs_nothing_from_elsewhere(run):
    text = recording_html(run)
    assert len(text.encode()) < 400_000
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "url(" not in text.replace("url(#", "")
    assert "default-src 'none'" in text


def test_equal_input_gives_equal_bytes(run):
    assert recording_html(run) == recording_html(record(xor(), seed=1))


def test_hostile_names_are_shown_as_they_are():
    name = '</script><img src="x" onerror="1">&$title'
    page = read(record(replace(xor(), name=name, steps=3, outputs=(name,)), seed=1))
    assert page.data["name"] == name
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert sum(tag == "script" for tag, _ in page.tags) == 2


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.5681, "0.568"), (1.0, "1.00"), (-0.106, "−0.106"), (99999.0, "99999"),
        (123456.0, "1.23·10⁵"), (0.001, "0.00100"), (0.00099, "9.90·10⁻⁴"), (0.0, "0"),
        ("inf", "∞"), ("-inf", "−∞"), ("nan", "not a number"), (0.5625, "0.563"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_and_a_true_minus(x, text):
    assert shown(x) == text
