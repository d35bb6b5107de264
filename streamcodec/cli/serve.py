"""``streamcodec serve``: live sessions for many clients over one port."""

import dataclasses
import importlib.util
import signal
from argparse import ArgumentParser, Namespace
from typing import Any

from ..errors import InputError
from ..install import how_to_install
from .signals import check_ended

__all__ = ["add_arguments", "run"]

EXTRA = ("websockets", "prometheus_client", "h11")


def add_arguments(parser: ArgumentParser) -> None:
    """An option for each field of the server's configuration, in groups, and one for all limits."""
    from ..server.config import LIMIT, Config

    groups: dict[str, Any] = {}
    fields = dataclasses.fields(Config)
    for field in fields:
        title = field.metadata["group"]
        if title != LIMIT:
            if title not in groups:
                groups[title] = parser.add_argument_group(title)
            _add_option(groups[title], field)
    names = ", ".join(f"{f.name.replace('_', '-')} ({f.default})" for f in fields if f.metadata["group"] == LIMIT)
    parser.add_argument_group(LIMIT).add_argument(
        "--limit",
        action="append",
        metavar="NAME=VALUE",
        help=f"set a limit, repeatable; docs/server.md says what each bounds. The names, with their defaults: {names}",
    )


def _add_option(group: Any, field: "dataclasses.Field[Any]") -> None:
    name, meta, default = "--" + field.name.replace("_", "-"), field.metadata, field.default
    shown = "" if default in (None, (), False) else f" (default: {default})"
    options = {"help": meta["help"] + shown, "default": default}
    if default is False:
        group.add_argument(name, action="store_true", **options)
    elif default == ():
        group.add_argument(name, action="append", metavar=meta["metavar"], help=meta["help"])
    else:
        kind = type(default) if default is not None else str
        choices = meta.get("choices")
        group.add_argument(name, type=kind, choices=choices, metavar=None if choices else meta["metavar"], **options)


def run(args: Namespace) -> int:
    """Run the command."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} is missing; install it with: {how_to_install('server')}")
    from ..server.config import LIMIT, Config, limits_of

    fields = [field for field in dataclasses.fields(Config) if field.metadata["group"] != LIMIT]
    values = {field.name: getattr(args, field.name) for field in fields}
    repeated = {field.name: tuple(values[field.name] or ()) for field in fields if field.default == ()}
    config = Config(**{**values, **repeated, **limits_of(args.limit or ())})
    from ..server.start import serve  # torch: a mistake in the options is told without it

    try:
        return serve(config, check_ended)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # people press it twice, and it is about to end
        raise
