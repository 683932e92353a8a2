"""The page of `fbp show`, clicked through."""

import json
import time

import pytest

from fbp.show.payload import at, shown

SCENES = range(11)


@pytest.fixture(scope="module")
def data(pages):
    text = pages["show"].read_text("utf-8")
    return json.loads(text.split('id="data">')[1].split("</script>")[0])


def numbers(browser):
    """The visible numbers of the scene that is shown, by path."""
    return browser.run(
        "return [...document.querySelectorAll('.scene.now [data-kind=number]')]"
        ".map(e => [e.dataset.path, e.textContent])"
    )


@pytest.mark.parametrize("scene", SCENES)
def test_every_visible_number_of_every_step_is_that_of_the_data(browser, pages, data, scene):
    for step, edge in ((0, (0, 1, 2)), (2, (1, 3, 1)), (3, (2, 0, 0))):
        chosen = "-".join(map(str, edge))
        browser.open(pages["show"], f"#scene={scene}&step={step}&edge={chosen}")
        layer, i, j = map(str, edge)
        state = {"@s": str(step), "@l": layer, "@i": i, "@j": j, "@f": "@last"}
        for path, text in numbers(browser):
            where = ".".join(state.get(part, part) for part in path.split("."))
            assert text == shown(at(data, where)), path


@pytest.mark.parametrize("scene", SCENES)
def test_axe_finds_nothing_in_any_scene(browser, pages, scene):
    browser.open(pages["show"], f"#scene={scene}", width=390)
    assert browser.violations() == []


def test_sizes_of_the_marks_follow_the_numbers_within_and_across_layers(browser, pages, data):
    browser.open(pages["show"], "#scene=5&step=1")
    sizes = browser.run(
        "return [...document.querySelectorAll('#pulses .pulse')].map(e => +e.dataset.size)"
    )
    layers = data["steps"][1]["layers"]
    sent = [abs(m) for layer in layers for row in layer["message"] for m in row]
    order = sorted(range(len(sent)), key=sent.__getitem__)
    assert len(sizes) == len(sent) == 23
    assert [sizes[k] for k in order] == sorted(sizes)
    assert max(sizes) <= 10


def test_an_exact_zero_has_no_mark_but_a_0(browser, pages, data):
    browser.open(pages["show"], "#scene=2&step=3")  # both inputs are 0
    zeros = sum(
        c == 0 for layer in data["steps"][3]["layers"] for row in layer["carried"] for c in row
    )
    assert zeros == 8
    assert browser.run("return document.querySelectorAll('.zero-signal').length") == zeros


def test_all_scenes_are_reached_by_keyboard_alone(browser, pages):
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["show"])
    stage = browser.driver.find_element("id", "next")
    titles = [browser.driver.find_element("css selector", ".scene.now h2").text]
    for _ in SCENES[1:]:
        stage.send_keys(Keys.ARROW_RIGHT)
        titles.append(browser.driver.find_element("css selector", ".scene.now h2").text)
    assert len(set(titles)) == 11
    stage.send_keys(Keys.HOME)
    assert browser.driver.find_element("css selector", ".scene.now h2").text == titles[0]


def test_it_starts_paused_and_pause_freezes(browser, pages):
    browser.open(pages["show"], reduced=False)
    picture = "return document.getElementById('net').outerHTML"
    first = browser.run(picture)
    time.sleep(0.5)
    assert browser.run(picture) == first
    browser.run("document.getElementById('scene').value = 5; go(5)")
    time.sleep(0.6)
    browser.run("document.getElementById('play').click()")
    frozen = browser.run(picture)
    assert frozen != first
    time.sleep(0.3)
    assert browser.run(picture) == frozen


def test_less_motion_means_none(browser, pages):
    browser.open(pages["show"], "#scene=4", reduced=True)
    browser.driver.find_element("id", "next").click()
    assert browser.run("return state.playing") is False
    assert browser.run("return state.progress") == 1


def test_touching_an_edge_chooses_it(browser, pages):
    browser.open(pages["show"], "#scene=2")
    browser.driver.find_element("css selector", '[data-edge="1-2-1"]').click()
    named = browser.driver.find_element("css selector", ".scene.now b").text
    assert named == "h1.3 → h2.2"
    assert "edge=1-2-1" in browser.driver.current_url


def test_the_guess_is_answered(browser, pages, data):
    browser.open(pages["show"], "#scene=7&edge=2-0-0", reduced=False)
    assert browser.run("return document.querySelector('#scene7 p').hidden") is True
    layer = data["steps"][0]["layers"][2]
    fell = layer["w_next"][0][0] < layer["w"][0][0]
    browser.driver.find_element(
        "css selector", f"[data-guess={'fall' if fell else 'rise'}]"
    ).click()
    assert browser.driver.find_element("id", "guess-answer").text.startswith("Right")
    assert browser.run("return document.querySelector('#scene7 p').hidden") is False


def test_controls_are_large_enough_to_touch(browser, pages):
    browser.open(pages["show"], "#scene=9", width=390)
    small = browser.run(
        "return [...document.querySelectorAll('button, select, input')].filter(e => e.offsetParent)"
        ".map(e => e.getBoundingClientRect()).filter(b => b.width < 24 || b.height < 24).length"
    )
    assert small == 0


def test_text_in_the_drawing_can_be_read_on_a_phone(browser, pages):
    browser.open(pages["show"], "#scene=2", width=390)
    assert browser.run(
        "return Math.min(...[...document.querySelectorAll('#net text')].filter(e => e.textContent)"
        ".map(e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a))"
    ) >= 10.5  # fmt: skip


def test_without_a_script_the_drawing_the_scenes_and_the_numbers_are_there(browser, pages):
    browser.open(pages["show"], script=False)
    text = browser.driver.find_element("tag name", "main").text
    assert "Along the edges" in text
    assert "Every edge in this step" in text
    assert len(browser.driver.find_elements("css selector", "#edges line")) == 23
    assert not browser.driver.find_element("id", "controls").is_displayed()


def test_on_paper_every_scene_is_a_still(browser, pages):
    browser.open(pages["show"])
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("return document.querySelectorAll('.still').length") == 11
    assert browser.run("return document.querySelectorAll('.still #net').length") == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("return document.querySelectorAll('.still').length") == 0
