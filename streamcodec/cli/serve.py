"""``streamcodec serve``: live sessions for many clients over one port."""

import dataclasses
import importlib.util
import signal
from argparse import ArgumentParser, Namespace

from ..errors import InputError
from ..install import how_to_install
from .signals import check_ended

__all__ = ["add_arguments", "run"]

EXTRA = ("websockets", "prometheus_client", "h11")


def add_arguments(parser: ArgumentParser) -> None:
    """An option for each field of the server's configuration."""
    from ..server.config import Config

    for field in dataclasses.fields(Config):
        name, meta, default = "--" + field.name.replace("_", "-"), field.metadata, field.default
        shown = "" if default in (None, (), False) else f" (default: {default})"
        options = {"help": meta["help"] + shown, "default": default}
        if default is False:
            parser.add_argument(name, action="store_true", **options)
        elif default == ():
            parser.add_argument(name, action="append", metavar=meta["metavar"], help=meta["help"])
        else:
            kind = type(default) if default is not None else str
            choices = meta.get("choices")
            parser.add_argument(
                name, type=kind, choices=choices, metavar=None if choices else meta["metavar"], **options
            )


def run(args: Namespace) -> int:
    """Run the command."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} is missing; install it with: {how_to_install('server')}")
    from ..server.config import Config

    values = {field.name: getattr(args, field.name) for field in dataclasses.fields(Config)}
    repeated = {
        field.name: tuple(values[field.name] or ()) for field in dataclasses.fields(Config) if field.default == ()
    }
    config = Config(**{**values, **repeated})
    from ..server.start import serve  # torch: a mistake in the options is told without it

    try:
        return serve(config, check_ended)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # people press it twice, and it is about to end
        raise
