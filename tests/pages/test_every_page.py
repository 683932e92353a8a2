"""Every page: no finding of axe, no overflow, nothing from elsewhere, on a desk and on a phone."""

import pytest

KINDS = ("show", "sweep", "fit", "check", "comparison")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing(browser, pages, kind, width, dark):
    browser.open(pages[kind], width=width, dark=dark)
    assert browser.violations() == []


@pytest.mark.parametrize("width", [1200, 390, 320])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_the_screen_and_the_console_is_silent(browser, pages, kind, width):
    browser.open(pages[kind], width=width)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("return performance.getEntriesByType('resource').length") == 0
    assert browser.log() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_dark_screen_has_a_dark_page(browser, pages, kind):
    luminance = (
        "const m = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);"
        "return m[0] + m[1] + m[2]"
    )
    browser.open(pages[kind], dark=True)
    assert browser.run(luminance) < 200
    browser.open(pages[kind], dark=False)
    assert browser.run(luminance) > 600


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_not_broken_to_single_letters_on_a_phone(browser, pages, kind):
    browser.open(pages[kind], width=390)
    narrow = browser.run(
        "return [...document.querySelectorAll('td, th, dd, dt, p')].filter(e => e.offsetParent"
        " && e.innerText.trim().length > 8 && e.getBoundingClientRect().width < 30)"
        ".map(e => e.innerText)"
    )
    assert narrow == []
