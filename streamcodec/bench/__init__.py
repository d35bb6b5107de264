"""``streamcodec bench speed | live | drift | entropy | serve``: what streaming costs, what a window changes, what
entropy coding saves, and what a server carries.

A subcommand is a module of this package with `HELP`, `add_arguments(parser)` and `run(args)`, named in `SUBCOMMANDS`.
"""

import argparse
import importlib
import sys

__all__ = ["SUBCOMMANDS", "add_arguments"]

SUBCOMMANDS = ("speed", "live", "drift", "entropy", "serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands with their options; a parsed namespace has `module`, whose `run(args)` is the subcommand."""
    commands = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    for name in SUBCOMMANDS:
        module = importlib.import_module(f"{__name__}.{name}")
        description = (sys.modules[module.__name__].__doc__ or "").split("\n\n")[0]
        command = commands.add_parser(name, help=module.HELP, description=description)
        module.add_arguments(command)
        command.set_defaults(module=module.__name__)
