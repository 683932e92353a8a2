"""`fbp run`: a program that calls jax.grad, with fbp in its place."""

import builtins
import importlib.util
import io
import os
import runpy
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Annotated, Any

from tyro.conf import Positional, arg

from fbp.errors import InputError

USAGE = "fbp run SCRIPT [ARG ...], or fbp run -m MODULE [ARG ...]"
NOT_OF_THE_PROGRAM = (__file__, runpy.__file__, "<frozen runpy>")


@dataclass(frozen=True)
class RunCommand:
    """Run a Python program untouched, its gradients made by fbp in the place of JAX.

    jax.grad, value_and_grad, vjp, jacrev, hessian and linear_transpose are fbp's in all its
    threads, whoever calls them, not in processes that it starts. At the end stderr says how many
    gradients fbp made, and where JAX differentiated all the same.
    """

    program: Annotated[Positional[tuple[str, ...]], arg(metavar="SCRIPT [ARG ...]")]
    """A file, or -m and the name of a module, and its arguments."""

    def __call__(self) -> int:
        """Run the program; return its exit status."""
        return run_program(self.program)


def run_program(words: Sequence[str]) -> int:
    """Run `SCRIPT [ARG ...]` or `-m MODULE [ARG ...]`; return the exit status.

    Raises:
      InputError: there is no such program.
      SystemExit: what the program raised.
    """
    from fbp.autodiff.override import override_jax_in_all_threads

    as_module = list(words[:1]) == ["-m"]
    name, *args = words[as_module:] or [""]
    if not name or name.startswith("-"):
        raise InputError(f"{name or 'no program'}: the command is {USAGE}")
    check_exists(name, as_module)
    sys.argv = [name, *args]
    sys.path[0] = os.getcwd() if as_module else str(Path(name).resolve().parent)
    with override_jax_in_all_threads() as report, environment_into_config():
        try:
            return execute(name, as_module)
        finally:
            wait_for_threads()
            sys.stdout.flush()
            print(f"fbp run: {report}", file=sys.stderr)


def check_exists(name: str, as_module: bool) -> None:
    """Raise InputError unless there is such a script or module."""
    try:
        exists = importlib.util.find_spec(name) if as_module else os.path.isfile(name)
    except ModuleNotFoundError:  # a package on the way to a module
        exists = False
    if not exists:
        raise InputError(f"{name}: no such {'module' if as_module else 'file'}; {USAGE}")


def execute(name: str, as_module: bool) -> int:
    """Run a program as `__main__`; print the traceback of an exception as Python does."""
    try:
        if as_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            run_file(os.path.abspath(name))
    except SystemExit:
        raise
    except BaseException as error:
        error.__traceback__ = of_program(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def run_file(path: str) -> None:
    """Run a file as Python does, which `runpy.run_path` does but for `sys.argv[0]`."""
    main, before = ModuleType("__main__"), sys.modules["__main__"]
    vars(main).update(__file__=path, __builtins__=builtins)
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    sys.modules["__main__"] = main
    try:
        exec(code, vars(main))
    finally:
        sys.modules["__main__"] = before


def of_program(traceback: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins in the program."""
    while traceback and traceback.tb_frame.f_code.co_filename in NOT_OF_THE_PROGRAM:
        traceback = traceback.tb_next
    return traceback


def wait_for_threads() -> None:
    """Wait for the threads for which Python waits when it ends."""
    others = {threading.current_thread(), threading.main_thread()}
    while alive := [t for t in threading.enumerate() if not (t.daemon or t in others)]:
        alive[0].join()


# JAX reads JAX_ENABLE_X64 and its like when it is imported, as it is already when the program sets
# them before its own import.

_following = threading.Event()


@contextmanager
def environment_into_config() -> Iterator[None]:
    """Within it, `os.environ["JAX_..."] = value` sets JAX's option."""
    sys.addaudithook(_on_event)  # there is no way to remove one
    _following.set()
    try:
        yield
    finally:
        _following.clear()


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if event == "os.putenv" and _following.is_set():
        import jax

        name, value = (os.fsdecode(word) for word in args)
        option = name.lower()
        if option.startswith("jax_") and hasattr(jax.config, option):
            with suppress(RuntimeError):  # too late for it, as it would be without fbp
                jax.config.update(option, _parsed(value, getattr(jax.config, option)))


def _parsed(value: str, now: Any) -> Any:
    """Return an option's value, of the type that it has now."""
    if isinstance(now, bool):
        return value.lower() in ("1", "true", "t", "yes", "y", "on")
    return type(now)(value) if isinstance(now, int | float) else value
