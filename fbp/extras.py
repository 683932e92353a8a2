"""What of fbp takes which extra of its distribution."""

from importlib.util import find_spec

EXTRAS = {
    "PIL": "fit",
    "cattrs": "sweep",
    "filelock": "sweep",
    "jinja2": "report",
    "markupsafe": "report",
    "matplotlib": "report",
    "mlxtend": "experiments",
    "optuna": "optuna",
    "orbax": "sweep",
    "ray": "ray",
    "sklearn": "fit",
    "tomli_w": "sweep",
    "tqdm": "sweep",
}
"""The extra that brings a module which the core does without."""

OF_COMMANDS = {"experiments": "experiments", "fit": "fit", "predict": "fit", "report": "report"}
"""The extra that brings all that a command takes."""
NO_EXPERIMENTS = (
    "the experiments are in fbp's repository, not in the package: clone it, and install it with "
    "pip install -e '.[experiments]'"
)


def missing_extra(error: ModuleNotFoundError, command: str) -> str | None:
    """Say what to install for a module that is missing; None where no extra brings it.

    >>> missing_extra(ModuleNotFoundError(name="cattrs"), "sweep")
    "fbp sweep takes cattrs, which is not installed: pip install 'fbp-jax[sweep]'"
    """
    module = (error.name or "").split(".")[0]
    if module not in EXTRAS:
        return None
    if command == "experiments" and find_spec("experiments") is None:
        return NO_EXPERIMENTS
    extra = OF_COMMANDS.get(command, EXTRAS[module])
    return f"fbp {command} takes {module}, which is not installed: pip install 'fbp-jax[{extra}]'"
