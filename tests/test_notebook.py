"""What results print of themselves is short, true and escaped."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

import fbp
from fbp import notebook
from fbp.automl.fitted import Fitted
from fbp.automl.story import Curve
from fbp.train.loop import TrainResult
from fbp.train.resume import Measurement
from fbp.verify.report import Finding, Kind, Report


class Balanced(HTMLParser):
    """Fails on a tag that is not closed, and collects what is read."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text = [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def shown(value):
    return " ".join(Balanced(value._repr_html_()).text)


def loss(params, x):
    return jnp.mean(jnp.tanh(x @ params["<w>"]) ** 2)


POINT = {"<w>": jnp.ones((3, 1))}, jnp.ones((8, 3))


def test_a_pullback_lists_its_residuals():
    _, pullback = fbp.vjp(loss, *POINT)
    text = shown(pullback)
    assert all(residual.origin in text for residual in pullback.residuals)
    assert "input [0]['<w>'] float32[3,1] 12" in text
    assert "<w>" not in pullback._repr_html_()
    first, *_ = pullback.residuals
    assert repr(first) == "<residual of input [0]['<w>']: float32[3,1], 12 bytes>"


def test_a_table_of_rules_lists_them_and_its_edits():
    half = fbp.edit.cotangent("<block>", fbp.edit.scale(0.5))
    text = shown(fbp.RULES | half)
    assert "sin derivative" in text
    assert f"rules of {len(fbp.RULES)} primitives" in text
    assert str(half) in text


def test_a_report_is_a_line_and_in_a_notebook_all_of_it():
    report = Report("the gradient of <f>", (), (Finding(Kind.KINK, "There is a <kink>."),))
    assert repr(report) == "<Report: the gradient of <f>: right; 1 finding>"
    assert "There is a <kink>." in shown(report)
    assert "<kink>" not in report._repr_html_()


def test_sites_show_what_they_hold():
    assert "tanh" in shown(fbp.sites(loss, *POINT))


def test_a_training_shows_its_curve_and_its_numbers():
    nan = float("nan")
    history = (Measurement(0, nan, 2.5, 0.1), Measurement(10, 1.5, 1.25, 0.75))
    result = TrainResult(state=None, history=history, stopped="steps")
    text = shown(result)
    assert "step 10" in text
    assert "1.25" in text
    assert result._repr_html_().count("<polyline") == 2
    assert "nan" not in re.sub(r"<td>nan</td>", "", result._repr_html_())


def test_a_fit_shows_its_verdict_its_curve_and_its_notes():
    curve = Curve((5, 10), ((3.0, 1.0), (5.0, None)), ((4.0, 2.0), (2.0, 2.0)))
    story = SimpleNamespace(verdict="<a> is predicted.", curve=curve, notes=("few rows",))
    fitted = Fitted(SimpleNamespace(), story)
    text = shown(fitted)
    assert "<a> is predicted." in text
    assert "few rows" in text
    assert "from 4 to 2 in 10 steps" in fitted._repr_html_()


@pytest.mark.parametrize("values", [[], [None], [float("nan")], [float("inf")]])
def test_losses_that_are_not_finite_make_no_picture(values):
    assert notebook.curves([0] * len(values), {"validation": values}) == ""


def test_a_picture_holds_every_point_within_its_frame():
    html = notebook.curves([0, 5, 10], {"a": [3.0, None, 1.0], "<b>": [2.0, 2.0, 2.0]})
    Balanced(html)
    (a, b) = re.findall(r'points="([^"]*)"', html)
    assert len(a.split()) == 2
    assert len(b.split()) == 3
    pairs = [tuple(map(float, point.split(","))) for point in (a + " " + b).split()]
    assert all(0 <= x <= notebook.WIDTH and 0 <= y <= notebook.HEIGHT for x, y in pairs)
    assert "<b>" not in html
