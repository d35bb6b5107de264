"""``streamcodec completion``: what a shell must know to complete commands, options and file names."""

import argparse
import importlib.util
from argparse import Namespace
from collections.abc import Iterator

from ..errors import InputError
from .parser import SHELLS, build_parser

__all__ = ["SHELLS", "run"]

FILES = ("FILE", "WAV", "PATH", "TOML", "SOURCE", "DIR", "RUN", "PACK", "CODEC")  # metavars of what is a file
POSITIONAL = ("input", "output", "codec", "data")


def run(args: Namespace) -> int:
    """Run the command."""
    if importlib.util.find_spec("shtab") is None:
        raise InputError("the package shtab is missing; install it with: pip install shtab")
    import shtab

    parser = build_parser([], complete=True)
    for action in _actions(parser):
        if action.choices is None and (action.metavar in FILES or action.dest in POSITIONAL) and action.nargs != 0:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    print(shtab.complete(parser, args.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # argparse has no public way to them
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
