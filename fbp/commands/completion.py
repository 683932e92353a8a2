"""`fbp completion`: what a shell needs to complete fbp's commands."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

from fbp.errors import require_one_of

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class CompletionCommand:
    """Print a script that completes fbp's commands and options in a shell.

    bash: fbp completion bash > ~/.local/share/bash-completion/completions/fbp

    zsh: fbp completion zsh > DIR/_fbp, with a directory of $fpath

    fish: fbp completion fish > ~/.config/fish/completions/fbp.fish
    """

    shell: Annotated[Positional[str], arg(metavar="{bash,zsh,fish}")]
    """Which shell."""

    def __call__(self) -> int:
        """Print the script."""
        from fbp.cli import Command

        require_one_of("fbp completion", self.shell, SHELLS)
        words = ["--tyro-print-completion", self.shell]
        try:
            tyro.cli(Command, prog="fbp", args=words)
        except SystemExit as exit:
            return int(exit.code or 0)
        raise AssertionError("tyro prints a script and exits")
