"""Whose fault an error of the training function is: the code's, or the device's, which another node may not have. Pure.

Told by its type and text alone, because a follower's error comes as text, and torch is not imported to ask.
"""

import re

_BY_THE_RUNTIME = re.compile(r"RuntimeError|AcceleratorError|DeferredCudaCallError|DistBackendError|NVMLError\w*")
"""What torch, NCCL and NVML raise: a training function's own ValueError may say what it likes."""

_BROKEN = re.compile(
    r"uncorrectable (ECC|NVLink) error"
    r"|no CUDA-capable device is detected"
    r"|CUDA-capable device(s|\(s\) is/are| is) (are )?busy or unavailable"
    r"|CUDA driver initialization failed"
    r"|hardware stack error"
    r"|system not yet initialized"
    r"|\b(GPU|device) is lost\b"
    r"|\bfallen off the bus\b"
    r"|\bNVML\b|\bXid\b"
)
"""Words of CUDA, its driver and NVML for hardware, or a driver, that does not work.

Not among them is what a bug of the code may bring about as well: illegal memory access, misaligned address, device-side
assert, unspecified launch failure, unknown error, too little memory, no GPU in sight, a kernel that is not there.
"""

_CODE_TOO = re.compile(
    r"illegal memory access|misaligned address|device-side assert triggered|unspecified launch failure|out of memory",
    re.IGNORECASE,
)


def is_device_failure(kind: str, message: str) -> bool:
    """Whether an error of this type and text is the device's and not the code's. In doubt it is the code's."""
    if not _BY_THE_RUNTIME.fullmatch(kind) or _CODE_TOO.search(message):
        return False
    return bool(_BROKEN.search(message))
