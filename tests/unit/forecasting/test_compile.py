"""torch.compile: the same weights under the same names, resumed bit for bit; a clear error without a compiler."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from forecasting_helpers import adapter_bytes, one_thread, run_through, small

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.data import make_dataset
from lvjobs.forecasting.models import compiling
from lvjobs.worker import signals

pytestmark = pytest.mark.heavy

__all__ = ["one_thread"]  # a fixture


@pytest.mark.storm  # a minute of g++, where nothing is in its cache
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler: torch cannot compile for a CPU")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own import
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # and its tracing
@pytest.mark.usefixtures("one_thread")
def test_a_compiled_run_resumes_bit_for_bit_and_saves_what_any_run_saves(tmp_path):
    make_dataset(tmp_path / "data.h5", systems=5, seed=0)
    options = {"steps": 4, "checkpoint_every": 2, "validate_every": 4, "lora_targets": "qv"}
    compiled = small(tmp_path / "data.h5", compile=True, **options)
    plain = run_through(small(tmp_path / "data.h5", **options), tmp_path / "plain")
    whole = run_through(compiled, tmp_path / "whole")
    first = run_through(compiled, tmp_path / "1", kill_at=3)
    second = run_through(compiled, tmp_path / "2", before=first.saved)
    assert adapter_bytes(second) == adapter_bytes(whole)
    assert adapter_bytes(whole) != adapter_bytes(plain), "other kernels, other rounding"
    shapes = [
        {name: weights.shape for name, weights in safetensors.torch.load(adapter_bytes(run)).items()}
        for run in (whole, plain)
    ]
    assert shapes[0] == shapes[1]
    assert [metrics["tokens"] for _, metrics in whole.logs] == [metrics["tokens"] for _, metrics in plain.logs]


@pytest.mark.slow
def test_a_machine_that_cannot_compile_says_so(tmp_path):
    code = """
import torch
from lvjobs.forecasting.models import compile_layers, compiling

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 3)

    def forward(self, x):
        return torch.nn.functional.gelu(self.inner(x))

model = Model()
compile_layers(model)
with compiling():
    model(torch.ones(2, 3)).sum().backward()
"""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "CXX": "/no/such/compiler", "PATH": "/no"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("lvjobs.errors.LvjobsError: compile = true, and this machine cannot compile the model (")
    assert last.endswith("load a compiler, such as gcc among [resources] modules, or set compile = false")


def test_other_errors_are_nobody_elses():
    with pytest.raises(ZeroDivisionError), compiling():
        raise ZeroDivisionError
    with pytest.raises(LvjobsError, match="cannot compile the model"), compiling():
        raise torch._dynamo.exc.BackendCompilerFailed(compiling, ValueError("no"), None)


def test_compilers_do_not_die_of_the_runs_signals():
    with compiling():
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert blocked >= set(signals.STOP_SIGNALS)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(signals.STOP_SIGNALS)
