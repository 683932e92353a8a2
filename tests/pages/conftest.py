"""A headless browser, and one page of each kind. `make test-pages` installs what they need."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fbp.cli import main
from tests.support.demo_config import TEXT

ROOT = Path(__file__).parents[2]
AXE = ROOT / ".cache" / "node_modules" / "axe-core" / "axe.min.js"
TABLE = "a,b,kind\n" + "\n".join(
    f"{x:.3f},{y:.3f},{'<b>' if x > y else 'y'}"
    for x, y in np.random.default_rng(0).random((90, 2))
)


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """One page of each kind, by its name."""
    root = tmp_path_factory.mktemp("pages")
    (root / "demo.toml").write_text(TEXT)
    (root / "table.csv").write_text(TABLE)
    commands = {
        "show": ["show", "xor", "--out", root / "show"],
        "sweep": ["sweep", root / "demo.toml", "--out", root / "sweep"],
        "fit": ["fit", root / "table.csv", "--target", "kind", "--out", root / "fit"],
        "check": ["check", "jax.numpy:tanh", "--args", "float32[3]", "--html", root / "check.html"],
    }
    for command in commands.values():
        assert main([str(word) for word in command]) in (0, 1)
    again = ["sweep", root / "demo.toml", "--out", root / "again", "--set", "train.batch_size=8"]
    assert main([str(word) for word in again]) == 0
    assert main(["report", str(root / "sweep")]) == 0
    compared = root / "comparison.html"
    runs = [str(root / "sweep"), str(root / "again")]
    assert main(["report", "--compare", *runs, "--out", str(compared)]) == 0
    return {
        "show": root / "show" / "index.html",
        "sweep": root / "sweep" / "report.html",
        "fit": root / "fit" / "report.html",
        "check": root / "check.html",
        "comparison": compared,
    }


class Browser:
    """A page of a browser that has no network."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, fragment="", width=1200, dark=False, reduced=True, script=True):
        """Open a file as a screen of this width, theme and taste in motion shows it."""
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced else "no-preference"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        self.driver.get("about:blank")
        self.driver.get(path.as_uri() + fragment)

    def run(self, script, *args):
        """Run a script in the page."""
        return self.driver.execute_script(script, *args)

    def violations(self):
        """Return what axe finds."""
        self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run().then(r => done(JSON.stringify(r.violations)))"
        )
        return [
            (v["id"], node["target"], node["html"][:120])
            for v in json.loads(found)
            for node in v["nodes"]
        ]

    def log(self):
        """Return what the console says of errors."""
        return self.driver.get_log("browser")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium without network."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: make test-pages")
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver_path is None or not AXE.exists():
        pytest.skip("no chromium, chromedriver or axe-core: make test-pages")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=driver_path)
    )
    driver.set_network_conditions(offline=True, latency=0, throughput=0)
    yield Browser(driver)
    driver.quit()
