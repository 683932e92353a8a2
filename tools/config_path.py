"""Follow a config through a sweep: `python tools/config_path.py [--list]`.

A small sweep runs, and every call of a function of fbp is looked at that is given the config, as an
argument or within a study, a source or a runner. It prints how many functions it passes, how many
methods there are of what holds it, in how many files, and how often it goes back up: to a module
that imports the caller's, by way of others or not, so that the caller knows nothing of it."""

import argparse
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from fbp.config import Config
from fbp.sweep import run

ROOT = Path(__file__).parents[1]
SETTINGS = ["train.steps=4", "train.evaluate_every=2", "sweep.seeds=1", "sweep.trials='map'"]


def holds_config(value: Any, depth: int = 3) -> bool:
    """Whether a value is a config, or a record or a list of records with one in it."""
    if isinstance(value, Config):
        return True
    if depth == 0:
        return False
    if isinstance(value, list | tuple):
        return any(holds_config(entry, depth - 1) for entry in value[:4])
    if not type(value).__module__.startswith("fbp.sweep"):
        return False
    return any(holds_config(entry, depth - 1) for entry in getattr(value, "__dict__", {}).values())


def passes(frame: FrameType) -> bool:
    """Whether a call is of a function of fbp, with the config among its arguments or its self."""
    code = frame.f_code
    if not code.co_filename.startswith(str(ROOT / "fbp")) or code.co_name.startswith("<"):
        return False
    if Path(code.co_filename).parent.name in ("autodiff", "rules", "verify", "nn"):
        return False  # they know no config; they are called very often
    count = code.co_argcount + code.co_kwonlyargcount
    return any(holds_config(frame.f_locals.get(name)) for name in code.co_varnames[:count])


def followed() -> tuple[set[tuple[str, str]], set[tuple[tuple[str, str], tuple[str, str]]]]:
    """Return the functions, as file and name, that a config passes, and the calls among them."""
    functions: set[tuple[str, str]] = set()
    calls: set[tuple[tuple[str, str], tuple[str, str]]] = set()
    name_of = lambda code: (str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname)

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not passes(frame):
            return
        functions.add(name_of(frame.f_code))
        if frame.f_back is not None and passes(frame.f_back):
            calls.add((name_of(frame.f_back.f_code), name_of(frame.f_code)))

    with tempfile.TemporaryDirectory() as directory:
        sys.setprofile(look)
        try:
            run("configs/digits_mlp.toml", out=f"{directory}/run", settings=SETTINGS)
        finally:
            sys.setprofile(None)
    return functions, calls


def main() -> None:
    """Print how far a config goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the functions and the calls up")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.test_import_structure import GRAPH

    above: dict[str, set[str]] = {}

    def imported(module: str) -> set[str]:
        if module not in above:
            above[module] = set()
            above[module] = GRAPH[module].union(*(imported(name) for name in GRAPH[module]))
        return above[module]

    functions, calls = followed()
    module = lambda file: file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    up = sorted(
        (caller, called)
        for caller, called in calls
        if module(caller[0]) in imported(module(called[0])) - {module(called[0])}
        and module(called[0]) not in imported(module(caller[0]))
    )
    methods = {(file, name) for file, name in functions if "." in name}
    files = {file for file, _ in functions}
    print(
        f"{len(functions - methods)} functions are given the config, {len(methods)} methods are of "
        f"what holds it, in {len(files)} files; {len(up)} times it goes up"
    )
    if options.list:
        print(*(f"  {file} {name}" for file, name in sorted(functions)), sep="\n")
        for (file, caller), (called_file, called) in up:
            print(f"  {caller} ({file}) -> {called} ({called_file})")


if __name__ == "__main__":
    main()
