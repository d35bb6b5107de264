"""Where a codec computes: a device by its name, if this machine has it."""

import torch

from .errors import InputError

__all__ = ["usable_device"]


def usable_device(device: torch.device | str) -> torch.device:
    """The device, after a number was put there and read back. Raises InputError."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch built without that kind of device
        reason = str(error).splitlines()[0]
        here = ", ".join(["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
        raise InputError(f"device {str(device)!r} cannot be used here ({reason}); use {here}") from error
    return found
