"""The command line: `fer-jax COMMAND ...`, or `python -m fer_jax COMMAND ...` where the package is not installed."""

import importlib
import sys
from pathlib import Path

import fer_jax
from fer_jax.commands import COMMANDS
from fer_jax.errors import InputError, exit_on_input_error, nearest


def _usage(program: str) -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            f"usage: {program} COMMAND [OPTION ...]\n",
            f"{fer_jax.__doc__}\n",
            *(f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()),
            f"\n{program} COMMAND --help has the options of a command; --version the version.",
        ]
    )


@exit_on_input_error
def main() -> int | None:
    """Run the command that `sys.argv` names, with the arguments after it; `--help` lists the commands.

    Raises:
      InputError: no command is named so.
    """
    program = "python -m fer_jax" if Path(sys.argv[0]).name == "__main__.py" else Path(sys.argv[0]).name
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_usage(program))
        return None
    if name in ("-V", "--version"):
        print(f"fer_jax {fer_jax.__version__}")
        return None
    if name not in COMMANDS:
        raise InputError(f"{name}: no such command, expected one of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    module, _, function = COMMANDS[name][0].partition(":")
    # What argparse and the messages of the command call the program.
    sys.argv = [f"{program} {name}", *arguments]
    return getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    sys.exit(main())
