"""The blame for an error of the training function: the code, or a device that another node may not have. Pure.

Only the error's type and text decide, because a follower's error comes as text, and torch is not imported here.
"""

import re

_BY_THE_RUNTIME = re.compile(r"RuntimeError|AcceleratorError|DeferredCudaCallError|DistBackendError|NVMLError\w*")
"""Errors of torch, NCCL and NVML. The text of a training function's own ValueError proves nothing."""

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
"""Words of CUDA, its driver and NVML for broken hardware, or a broken driver.

Excluded is what a bug of the code may cause as well: illegal memory access, misaligned address, device-side assert,
unspecified launch failure, unknown error, too little memory, no visible GPU, a missing kernel.
"""

_CODE_TOO = re.compile(
    r"illegal memory access|misaligned address|device-side assert triggered|unspecified launch failure|out of memory",
    re.IGNORECASE,
)


def is_device_failure(kind: str, message: str) -> bool:
    """Return whether an error of this type and text is the device's. In doubt, the code is to blame."""
    if not _BY_THE_RUNTIME.fullmatch(kind) or _CODE_TOO.search(message):
        return False
    return bool(_BROKEN.search(message))
