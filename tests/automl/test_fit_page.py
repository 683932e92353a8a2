"""The page of a fit: it stands alone, opens with the verdict, and draws what was measured."""

import base64
import re
from dataclasses import replace
from html import escape

import numpy as np
import pytest

from fbp.automl.figures import confusion_matrix, story_figures
from fbp.automl.page import decisions, story_page

ENVIRONMENT = {
    "time": "2026-01-01T00:00:00+00:00",
    "versions": {"jax": "0.10"},
    "device": {"kind": "cpu", "count": 1},
}


@pytest.fixture(scope="module")
def page(classifier):
    return story_page(classifier.story, ENVIRONMENT, "fbp predict <run> data.csv")


def test_the_page_needs_no_other_file_and_no_network(page):
    assert set(re.findall(r'(?:src|href)="(?!#)([a-z]*:?)', page)) == {"data:"}
    assert not any(word in page for word in ("<script", "<link", "@import", "url("))


def test_the_page_opens_with_the_verdict(page, classifier):
    verdict = page.index(classifier.story.verdict)
    assert verdict < page.index("What was done")
    assert classifier.story.verdict.startswith("kind is predicted with test accuracy ")


def test_all_is_escaped(page):
    assert "fbp predict &lt;run&gt; data.csv" in page


def test_every_picture_has_a_caption_and_an_alternative_text(page):
    assert page.count("<figcaption>") == 4
    assert len(re.findall(r'<img alt="[^"]{40,}"', page)) == 4


def test_the_rate_chosen_is_marked(page, classifier):
    (best,) = re.findall(r'<tr class="best">.*?</tr>', page)
    assert f"{classifier.story.rate:.3g}" in best


def test_notes_and_decisions_are_said(page, classifier):
    assert all(note in page for note in classifier.story.notes)
    facts = decisions(classifier.story)
    assert facts["rows"] == "120 to learn from, 30 kept for the test"
    assert facts["task"].startswith("classification: kind: predicted as 3 classes, since it holds")


def test_a_regression_has_residuals_in_place_of_a_confusion_matrix(classifier, regressor):
    assert "confusion" in story_figures(classifier.story)
    pictures = story_figures(regressor.story)
    assert "confusion" not in pictures
    above, below = pictures["residuals"][0].axes
    points = above.lines[1].get_xydata()
    np.testing.assert_allclose(points[:, 1], regressor.story.truth)
    np.testing.assert_allclose(
        below.lines[1].get_ydata(),
        np.subtract(regressor.story.truth, regressor.story.predicted),
    )


def test_the_confusion_matrix_counts_each_row_once(classifier):
    story = replace(classifier.story, truth=(0, 0, 1, 2), predicted=(0, 1, 1, 0))
    assert confusion_matrix(story).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_a_rate_that_diverged_is_drawn_as_a_cross(classifier):
    story = classifier.story
    lost = replace(story.rates[-1], losses=(None, *story.rates[-1].losses[1:]))
    figure, _ = story_figures(replace(story, rates=(*story.rates[:-1], lost)))["rate_sweep"]
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert "diverged" in labels


NAMES = ("$a", "b$ $", "<i>&", "=1+1", "שלום", "🙂 _^{", "a\nb", r"\frac")


def test_every_name_is_shown_as_it_is(classifier, regressor):
    for story in (
        replace(classifier.story, classes=NAMES[:3], target="$x$ _{"),
        replace(classifier.story, classes=NAMES[3:6], target="<b>🙂"),
        replace(regressor.story, target="price $ in $"),
        replace(regressor.story, target="שלום\n=1"),
    ):
        text = story_page(story, ENVIRONMENT, "")
        assert f"Predicting {escape(story.target)}" in text
        images = [
            base64.b64decode(image).decode()
            for image in re.findall(r"svg\+xml;base64,([^\"]*)", text)
        ]
        drawn = "".join(images)
        names = story.classes or (f"predicted {' '.join(story.target.split())}",)
        assert all(escape(name, quote=False) in drawn for name in names)
