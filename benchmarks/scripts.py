"""Public training scripts, not touched: what they print by JAX and by `fbp run`.

    python -m benchmarks.scripts [--folder DIR] [--only NAME ...]

Each script is fetched at the commit given here, or taken from DIR/owner/name/path where it lies,
and run twice in processes of its own: `python script` and `python -m fbp run script`. The numbers
that it prints, losses for the most part, are compared line by line.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Script:
    """A file of a public repository at a commit, its arguments, and files beside it that it
    imports."""

    repository: str
    commit: str
    path: str
    arguments: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name the script as one does in a list."""
        return f"{self.repository}: {self.path}"


SCRIPTS = (
    Script(
        "google/jaxopt",
        "2de13bf01fd29e22862236a0d869f2b14e1629d4",
        "examples/implicit_diff/ridge_reg_implicit_diff.py",
    ),
    Script(
        "google/flax",
        "18f8f311c275d57f46d95e41b15aa97b454754c0",
        "examples/linen_design_test/linear_regression.py",
        beside=("examples/linen_design_test/dense.py",),
    ),
    Script(
        "google-deepmind/jraph",
        "51f5990104f7374492f8f3ea1cbc47feb411c69c",
        "jraph/examples/zacharys_karate_club.py",
        ("--logtostderr", "--verbosity=0"),
    ),
    Script(
        "google-deepmind/jraph",
        "51f5990104f7374492f8f3ea1cbc47feb411c69c",
        "jraph/examples/sat.py",
        ("--logtostderr", "--verbosity=0"),
    ),
)


@dataclass(frozen=True)
class Run:
    """What a script printed, and how it ended."""

    status: int
    printed: str
    said: str

    @property
    def numbers(self) -> list[list[float]]:
        """Return the numbers in each line that has any."""
        lines = [[float(x) for x in NUMBER.findall(line)] for line in self.printed.splitlines()]
        return [line for line in lines if line]


def at_hand(script: Script, folder: Path) -> Path:
    """Fetch a script and what lies beside it into a folder, unless it has them; return its path."""
    for path in (script.path, *script.beside):
        target = folder / script.repository / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            url = f"https://raw.githubusercontent.com/{script.repository}/{script.commit}/{path}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                target.write_bytes(answer.read())
    return folder / script.repository / script.path


def ran(path: Path, arguments: tuple[str, ...], *before: str) -> Run:
    """Run a script; lines that are logged count as printed, without the time at their head."""
    words = [sys.executable, *before, str(path), *arguments]
    environment = os.environ | {"MPLBACKEND": "Agg"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    logged = re.findall(r"^I\d{4} .*?\] (.*)$", done.stderr, re.MULTILINE)
    said = done.stderr.strip().rpartition("\n")[2]
    return Run(done.returncode, "\n".join([done.stdout, *logged]), said)


def compared(plain: Run, by_fbp: Run) -> str:
    """Say how far the numbers lie apart, or that a run failed."""
    for how, run in (("python", plain), ("fbp run", by_fbp)):
        if run.status:
            return f"{how} ends with {run.status}: {run.said}"
    if [len(line) for line in plain.numbers] != [len(line) for line in by_fbp.numbers]:
        return "other lines are printed"
    pairs = list(zip(chain(*plain.numbers), chain(*by_fbp.numbers), strict=True))
    apart = max((abs(a - b) / max(abs(a), 1e-12) for a, b in pairs), default=0.0)
    return f"{len(pairs):,} numbers, largest relative difference {apart:.1e}"


def main() -> None:
    """Run the scripts both ways, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the scripts lie, or are put")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of names")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for script in SCRIPTS:
            if any(word in script.name for word in arguments.only):
                path = at_hand(script, folder)
                plain = ran(path, script.arguments)
                by_fbp = ran(path, script.arguments, "-m", "fbp", "run")
                print(f"{script.name} at {script.commit[:10]}\n  {compared(plain, by_fbp)}")
                print(f"  {by_fbp.said}", flush=True)


if __name__ == "__main__":
    main()
