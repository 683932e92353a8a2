"""The page of a report says what the report says, and needs no other file."""

import re

import jax.numpy as jnp
import pytest

import fbp
from fbp.verify import Ladder, Report, check, write_page
from fbp.verify.page import html
from tests.support.faulty import FAULTS, with_fault

STEPS = tuple(2.0**-i for i in range(30))
LADDERS = (
    Ladder("args[0]['<w>']", STEPS, tuple(h**2 + 1e-16 / h for h in STEPS), 1e-13, 1e-12),
    Ladder("args[0]", STEPS, (0.0,) * 30, 0.0, 0.0),
    Ladder("args[1]", STEPS, (float("nan"),) * 30, float("nan"), float("inf")),
)


@pytest.fixture(scope="module")
def report():
    rules = with_fault("sin", FAULTS["doubled"])
    return check(lambda x: jnp.sum(jnp.sin(x)), jnp.arange(3.0), rules=rules)


def test_the_page_says_what_the_report_says(report):
    page = html(report)
    assert '<span class="wrong">WRONG</span>' in page
    assert "wrong rule" in page
    assert "test_check_page.py" in page
    assert page.count('<section class="fails">') == len(report.failures)
    assert page.count("<tr class=") == len(report.leaves)
    assert "Error against the step" not in page
    assert '<span class="right">right</span>' in html(Report("the gradient of f"))


def test_the_page_needs_no_other_file_and_no_network(report, tmp_path):
    write_page(tmp_path / "check.html", report, LADDERS)
    page = (tmp_path / "check.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(LADDERS)
    assert set(re.findall(r'(?:src|href)="([a-z]*:?)', page)) == {"data:"}
    assert not any(word in page for word in ("<script", "<link", "@import", "url("))
    assert "<w>" not in page


def test_what_cannot_be_written_is_named(report, tmp_path):
    with pytest.raises(fbp.InputError, match=r"nowhere.*cannot be written \(No such file"):
        write_page(tmp_path / "nowhere" / "check.html", report)


def test_without_matplotlib_the_picture_is_refused(report, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    monkeypatch.delitem(__import__("sys").modules, "fbp.verify.figures", raising=False)
    with pytest.raises(fbp.InputError, match="pip install"):
        html(report, LADDERS)
    assert html(report)
