"""``streamcodec train``: run, resume, export, blend, pack, entropy; `run` in several processes by ``torchrun -m``."""

import signal
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..checkpoint import load
from ..errors import ConfigError
from ..install import how_to_install
from ..train.blend import blend
from ..train.build import SETTINGS_FILE, build_run, data_of, export_run, write_small
from ..train.config import read_settings, to_toml
from ..train.data import read
from ..train.distributed import joined
from ..train.loop import Run
from ..train.pack import write_pack
from .ends import check_folder
from .telling import tell
from .train_entropy import run_entropy

__all__ = ["run"]

_SHOWN = ("mel", "wave", "adversarial", "feature", "discriminator")  # what the progress bar has room for
_STEADY = 0.98  # of the moving averages that it shows


@contextmanager
def _ended_by_signals(run: Run) -> Iterator[None]:
    """Ctrl-C and SIGTERM end a run after the present update, with a checkpoint."""
    earlier = {number: signal.signal(number, lambda *_: run.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _show(run: Run, updates: Iterable[Mapping[str, float]]) -> None:
    """Consume the updates under a progress bar; where stderr is no terminal, a line for every row of the log."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread of its own, which would be left at the end
    smooth: dict[str, float] = {}
    every = run.settings.log_every
    with tqdm(total=100.0, disable=not (run.world.leads and sys.stderr.isatty()), file=sys.stderr) as bar:
        bar.bar_format = "{l_bar}{bar}| {n:.1f}% {postfix}"
        for figures in updates:
            for name, value in figures.items():
                smooth[name] = _STEADY * smooth.get(name, value) + (1 - _STEADY) * value
            step = run.trainer.step_count
            shown = " ".join(f"{name} {smooth[name]:.4g}" for name in _SHOWN if name in smooth)
            bar.set_postfix_str(f"step {step} {shown}", refresh=False)
            bar.update(100 * run.trainer.progress - bar.n)
            if bar.disable and run.world.leads and step % every == 0:
                done = f"{100 * run.trainer.progress:.1f}%"
                print(f"step {step} ({done}, {run.trainer.elapsed:.0f} s) {shown}", file=sys.stderr, flush=True)


def _train(args: Namespace, resume: bool) -> None:
    folder, config = (args.run, args.run / SETTINGS_FILE) if resume else (args.out, args.config)
    settings = read_settings(config, args.overrides)
    data = data_of(folder) if resume else args.data
    with joined(settings.run.device) as world:
        run = build_run(data, folder, settings, world)
        if run.board.missing:
            tell(f"no TensorBoard files: the package tensorboard is not installed; {how_to_install('train')}")
        if run.trainer.warning and world.leads:
            tell(run.trainer.warning)
        with _ended_by_signals(run):
            _show(run, run.updates(args.stop_after))
        if not world.leads:
            return
        if run.trainer.progress < 1:
            tell(f"stopped at step {run.trainer.step_count}; go on with: streamcodec train resume {folder}")
            return
        print(export_run(folder, folder / "codec"))


def _pack(args: Namespace) -> None:
    if min(args.rate, args.channels) < 1 or args.limit <= 0:
        raise ConfigError(
            f"--rate is {args.rate}, --channels {args.channels} and --limit {args.limit}; all must be above 0"
        )
    if args.data.exists() and args.data.resolve() == args.out.resolve():
        raise ConfigError(f"{args.out} is the folder that is read; give the pack another one")
    check_folder(args.out, "pack-*.safetensors", "a pack", args.force)
    heard = read(args.data, args.rate, args.channels)
    done = write_pack(heard, args.out, args.rate, int(args.limit * 2**20), args.seed)
    left = f", {done['left_out']} left out" if done["left_out"] else ""
    print(f"{args.out}: {done['recordings']} recordings in {done['bytes'] / 2**20:.1f} MiB{left}")


def _export(args: Namespace) -> None:
    check_folder(args.codec, "model.safetensors", "a codec", args.force)
    print(export_run(args.run, args.codec))


def _blend(args: Namespace) -> None:
    check_folder(args.codec, "model.safetensors", "a codec", args.force)
    print(write_small(blend(load(args.one), load(args.other), args.share), args.codec))


def run(args: Namespace) -> int:
    """Run the command."""
    if args.print_config:
        print(to_toml(read_settings(args.config, args.overrides)), end="")
        return 0
    actions: dict[str, Any] = {
        "run": lambda: _train(args, False),
        "resume": lambda: _train(args, True),
        "export": lambda: _export(args),
        "blend": lambda: _blend(args),
        "pack": lambda: _pack(args),
        "entropy": lambda: run_entropy(args),
    }
    if args.action not in actions:
        args.parser.error("say what to do: run, resume, export, blend, pack or entropy; or --print-config")
    actions[args.action]()
    return 0
