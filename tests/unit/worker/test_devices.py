"""Errors that are the device's, in the words of CUDA, its driver, NVML and NCCL; and what an attempt computes on."""

import platform

import pytest
from worker_helpers import Zygote, entries, make_run

from lvjobs.records.failure import breakdown_of, record_error
from lvjobs.study.words import Breakdown
from lvjobs.worker.versions import device_name

SYNC = (
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("AcceleratorError", f"CUDA error: uncorrectable ECC error encountered\n{SYNC}"),
        ("RuntimeError", f"CUDA error: uncorrectable ECC error encountered\n{SYNC}"),
        ("AcceleratorError", f"CUDA error: uncorrectable NVLink error detected during the execution\n{SYNC}"),
        ("AcceleratorError", f"CUDA error: CUDA-capable device(s) is/are busy or unavailable\n{SYNC}"),
        ("RuntimeError", f"CUDA error: all CUDA-capable devices are busy or unavailable\n{SYNC}"),
        ("RuntimeError", f"CUDA error: no CUDA-capable device is detected\n{SYNC}"),
        ("RuntimeError", f"CUDA error: hardware stack error\n{SYNC}"),
        ("RuntimeError", f"CUDA error: system not yet initialized\n{SYNC}"),
        (
            "RuntimeError",
            (
                "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
                "NumCudaDevices() that might have already set an error? Error 802: system not yet initialized"
            ),
        ),
        ("RuntimeError", "CUDA driver initialization failed, you might not have a CUDA gpu."),
        (
            "DeferredCudaCallError",
            "CUDA call failed lazily at initialization with error: no CUDA-capable device is detected",
        ),
        (
            "RuntimeError",
            (
                "Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.  Reboot the system to recover "
                "this GPU"
            ),
        ),
        ("RuntimeError", "Failed to initialize NVML: Driver/library version mismatch"),
        ("NVMLError_GpuIsLost", "GPU is lost"),
        ("NVMLError_Unknown", "NVML: Unknown Error"),
        ("RuntimeError", "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus."),
        ("DistBackendError", "NCCL error: unhandled cuda error, Cuda failure 'uncorrectable ECC error encountered'"),
    ],
)
def test_a_device_failed(kind, message):
    assert breakdown_of(kind, message) is Breakdown.DEVICE


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("AcceleratorError", f"CUDA error: device-side assert triggered\n{SYNC}"),
        ("RuntimeError", f"CUDA error: device-side assert triggered\n{SYNC}"),
        ("AcceleratorError", f"CUDA error: an illegal memory access was encountered\n{SYNC}"),
        ("AcceleratorError", f"CUDA error: misaligned address\n{SYNC}"),
        ("RuntimeError", f"CUDA error: unspecified launch failure\n{SYNC}"),
        ("RuntimeError", f"CUDA error: unknown error\n{SYNC}"),
        ("RuntimeError", f"CUDA error: invalid device ordinal\n{SYNC}"),
        ("RuntimeError", f"CUDA error: no kernel image is available for execution on the device\n{SYNC}"),
        ("RuntimeError", f"CUDA error: initialization error\n{SYNC}"),
        ("RuntimeError", "No CUDA GPUs are available"),
        (
            "RuntimeError",
            (
                "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use "
                "the 'spawn' start method"
            ),
        ),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.25 GiB"),
        ("RuntimeError", "CUDA out of memory; NVML says that 12 MiB are free"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (4x6 and 7x2)"),
        (
            "RuntimeError",
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
        ),
        ("ValueError", "uncorrectable ECC error"),
        ("KeyError", "'Xid'"),
        ("RuntimeError", "PyTorch is not linked with support for xidevices"),
        ("ZeroDivisionError", "the toy broke"),
    ],
)
def test_in_doubt_it_is_the_code(kind, message):
    assert breakdown_of(kind, message) is Breakdown.NONE


@pytest.mark.torch
def test_its_line_in_the_journal_says_so_and_names_the_node(tmp_path):
    zygote = Zygote("torch")
    try:
        here, nowhere, code = (
            make_run(tmp_path / name, params=params)
            for name, params in (
                ("here", {"device_error_at": 12}),
                ("nowhere", {"device_error_at": 12}),
                ("code", {"fail_at": 12}),
            )
        )
        assert (
            zygote.run(
                here, LVJOBS_BACKEND="slurm", SLURM_JOB_ID="7", SLURMD_NODENAME="gpu-3", PATH="", LVJOBS_END_TIME=2e9
            )
            == 1
        )
        assert zygote.run(nowhere) == 1
        assert zygote.run(code) == 1
    finally:
        zygote.close()
    (error,) = entries(here, "error")
    assert (error["breakdown"], error["device"], error["node"]) == ("device", True, "gpu-3")
    assert "uncorrectable ECC error" in error["traceback"]
    assert entries(nowhere, "error")[0]["node"] == "", "Slurm has no name for it: what is to be avoided is not known"
    assert "device" not in entries(code, "error")[0]


def test_a_followers_error_is_judged_by_the_same_words():
    broken = record_error(RuntimeError("CUDA error: uncorrectable ECC error encountered"), "gpu-3").to_fields()
    assert (broken["breakdown"], broken["device"], broken["node"]) == ("device", True, "gpu-3")
    assert record_error(ValueError("no"), "gpu-3").to_fields().keys() == {"type", "message", "traceback"}


def test_what_it_computes_on(tmp_path):
    cpu, nvidia = tmp_path / "cpuinfo", tmp_path / "gpus"
    assert device_name(None, nvidia, cpu) == platform.machine()
    cpu.write_text(
        "processor\t: 0\nmodel name\t: AMD EPYC 7763 64-Core Processor\nprocessor\t: 1\nmodel name\t: other\n"
    )
    assert device_name(None, nvidia, cpu) == "AMD EPYC 7763 64-Core Processor"
    for number, model in enumerate(("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB")):
        (nvidia / f"0000:{number}").mkdir(parents=True)
        (nvidia / f"0000:{number}" / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 123\n")
    assert device_name("0", nvidia, cpu) == device_name(None, nvidia, cpu) == "NVIDIA A100-SXM4-80GB"
    assert device_name("", nvidia, cpu) == "AMD EPYC 7763 64-Core Processor", "the job was given none"
