"""Two processes as torchrun starts them, forked from one that has imported what they need: that takes most of the time.

``python two_ranks.py train COMMANDS``: JSON, arguments of `streamcodec train` for each run, one after the other.
``python two_ranks.py threads``: see that no thread of a process group outlives it, where it ends and where it fails.
"""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from streamcodec.cli import main
from streamcodec.train.distributed import joined


def in_two(call: Callable[[], int]) -> None:
    """The call by ranks 0 and 1; ends this process with 1 where it gives or ends with anything but 0 in one of them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in "01":
        children.append(os.fork())
        if not children[-1]:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
            os.environ.update(place, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            sys.exit(call())
    ended = [os.waitpid(child, 0)[1] for child in children]
    if any(ended):
        sys.exit(1)


def threads() -> list[str]:
    return sorted((task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir())


def threads_left(fails: bool) -> int:
    """How many threads of a process group outlive it."""
    before = threads()
    with contextlib.suppress(KeyError), joined("cpu") as world:
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
        optimizer.param_groups[0]["params"][0].grad = world.mean(torch.ones(2))
        optimizer.step()
        assert threads() != before
        if fails:
            raise KeyError("as an update might")
    left = [name for name in threads() if "gloo" in name or "store" in name]
    if left:
        print(f"rank {os.environ['RANK']} goes on with {left}, fails: {fails}", file=sys.stderr)
    return len(left)


if __name__ == "__main__":
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])  # imports what it needs
    if sys.argv[1] == "threads":
        in_two(partial(threads_left, fails=False))
        in_two(partial(threads_left, fails=True))
    else:
        for arguments in json.loads(sys.argv[2]):
            in_two(partial(main, ["train", *arguments]))
