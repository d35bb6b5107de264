"""The same work on Ray Data: a cluster's workers encode, while this process reads the source and writes what comes.

Ray decides where work runs, and runs it again where a worker or a machine is lost. What comes twice for that reason is
taken once, and what never comes is told: so the data set is the same as that of one machine.
"""

import contextlib
import importlib
import logging
import math
import pickle
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from ..errors import DeviceError, MissingPackageError
from ..install import how_to_install
from ..sources import reason
from .encoding import Encoder, Settings
from .items import Failure, Item, Tokens

__all__ = ["LOCAL", "ray_data", "run_ray"]

LOCAL = "local"  # the address of a cluster of this machine alone, for as long as the job takes
BLOCK_ITEMS = 8  # recordings that a worker is given at a time
WAVE_ITEMS, WAVE_BYTES = 10_000, 1 << 30  # that Ray is given at a time: their audio may be in memory
RETRIES = 2  # of a block whose worker was lost


def run_ray(items: Iterable[Item], workers: int, settings: Settings, address: str) -> Iterator[Tokens | Failure]:
    """Tokens of `Item.loaded` items, or why there are none, as they come.

    workers: of the cluster, one core or GPU each; 0 for as many as there are. address: of the cluster, "auto" for the
    one that this machine is in, `LOCAL` for one of its own. Paths and URLs must mean the same on every machine. Raises
    MissingPackageError, DeviceError where there is no cluster.
    """
    ray = ray_data()
    with _connected(ray, address, workers):
        count = workers or _room(ray, settings)
        for wave in _waves(items):
            yield from _encoded(ray, wave, count, settings)


def ray_data() -> Any:
    """The package ray, with Ray Data. Raises MissingPackageError."""
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{error.name} is missing, which Ray Data needs; install it with: {how_to_install('ray')}", name=error.name
        ) from error


@contextlib.contextmanager
def _connected(ray: Any, address: str, workers: int) -> Iterator[None]:
    """In a cluster: the one that this process is in already, or the one at `address`, which is left at the end."""
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every plan that it makes
    own = {"num_cpus": workers or None, "include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        why = reason(error).strip().partition("\n")[0]
        raise DeviceError(
            f"there is no Ray cluster at {address!r} ({why}); start one with `ray start --head`, or use "
            f"{LOCAL!r} for this machine alone"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _room(ray: Any, settings: Settings) -> int:
    """How many workers the cluster has room for."""
    kind = "CPU" if settings.device == "cpu" else "GPU"
    found = int(ray.cluster_resources().get(kind, 0))
    if not found:
        raise DeviceError(f"the Ray cluster has no {kind}; it has {ray.cluster_resources()}")
    return found


def _waves(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items in lists that are bounded in number and size."""
    wave: list[Item] = []
    size = 0
    for item in items:
        wave.append(item)
        size += len(item.audio) if isinstance(item.audio, bytes) else 0
        if len(wave) >= WAVE_ITEMS or size >= WAVE_BYTES:
            yield wave
            wave, size = [], 0
    if wave:
        yield wave


def _encoded(ray: Any, wave: list[Item], workers: int, settings: Settings) -> Iterator[Tokens | Failure]:
    """Each item answered once. What is lost with its block is tried alone, and that which is lost alone is told."""
    left = {item.key: item for item in wave}
    for block in (max(BLOCK_ITEMS, settings.gathered), 1):
        if not left:
            return
        for result in _mapped(ray, list(left.values()), block, workers, settings):
            if left.pop(result.key, None) is not None:
                yield result
    for key in left:
        yield Failure(key, "the worker that encoded it died, each time")


def _mapped(ray: Any, items: list[Item], block: int, workers: int, settings: Settings) -> Iterator[Tokens | Failure]:
    """What Ray Data makes of the items, in blocks of so many. Of blocks that it gives up nothing comes."""
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    rows = [{"item": pickle.dumps(item)} for item in items]
    blocks = math.ceil(len(rows) / block)
    # A worker that dies takes with it what it was given beside the recording that is to blame: alone means alone.
    given = {"max_tasks_in_flight_per_actor": 1} if block == 1 else {}
    asked: dict[str, Any] = {"num_cpus": 1} if settings.device == "cpu" else {"num_gpus": 1}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # max_...; 2.64 has no others
        results = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            _Worker,
            fn_constructor_args=(settings,),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=min(workers, blocks), **given),
            max_restarts=-1,
            max_task_retries=RETRIES,
            **asked,
        )
    for row in results.iter_rows():
        yield pickle.loads(row["result"])


class _Worker:
    """In a process of the cluster: a codec, and one thread."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)  # the others of its kind have the other cores
        self.encoder = Encoder(settings)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        results = self.encoder(pickle.loads(item) for item in batch["item"])
        return {"result": np.array([pickle.dumps(result) for result in results], dtype=object)}
