"""Run directories and attempts for the worker's tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from lvjobs.files import append_line
from lvjobs.records.journal import parse_entries
from lvjobs.records.submission import SubmittedRun, orders_text, submission_text
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunConfig, RunFile
from lvjobs.worker import checkpoints, determinism, stored
from lvjobs.worker.state import Packer
from lvjobs.worker.tensor_file import sha256_of, write_tensor_file

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def make_run(directory, *, steps=40, task="toy_task:train", checkpoint_every=10, validate_every=10, **more):
    """A run directory as `submit` makes it."""
    layout = RunLayout(directory)
    directory.mkdir(parents=True)
    config = RunConfig(
        task=task, steps=steps, checkpoint_every=checkpoint_every, validate_every=validate_every, seed=7, **more
    )
    run = RunFile(id="id", name=directory.name, stage="s", fingerprint=config.fingerprint, config=config)
    layout.config.write_text(run.model_dump_json())
    return layout


def submit(*layouts, token="abc", allowance=None, stop_at=0):
    """The file of a submission of these runs, as a pass writes it."""
    path = layouts[0].study.submission(token)
    path.parent.mkdir(parents=True, exist_ok=True)
    members = [SubmittedRun(each.root.name, json.loads(each.config.read_text()), allowance) for each in layouts]
    rungs = dict.fromkeys((each.root.name for each in layouts), stop_at) if stop_at else {}
    path.write_bytes(submission_text(members) + orders_text(stop_at=rungs))


def revoke(layout, token="abc"):
    """The order that the submission may train the run no more."""
    append_line(layout.study.submission(token), orders_text(revoked=[layout.root.name]))


def environment(**variables):
    """A clean environment for an attempt."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "LVJOBS", "TOY"))}
    return kept | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"} | {k: str(v) for k, v in variables.items()}


def start(layout, **variables):
    """Start the real thing, as a job's script does; do not wait."""
    return subprocess.Popen(
        [sys.executable, "-m", "lvjobs.worker", str(layout.root)],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Zygote:
    """Attempts without their imports: a process that has them forks one for each.

    `imports` are more modules that it loads beforehand: torch, for a task that needs it, takes 3 seconds.
    """

    def __init__(self, *imports):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker_zygote.py")],
            env=environment(OMP_NUM_THREADS=1, HF_HUB_OFFLINE=1, ZYGOTE_IMPORTS=" ".join(imports)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(self, layout, **variables):
        """Fork an attempt; return its pid."""
        return self._ask(start=str(layout.root), environment={k: str(v) for k, v in variables.items()})

    def wait(self, pid):
        """Its exit code, negative for a signal."""
        return self._ask(wait=pid)

    def run(self, layout, **variables):
        """An attempt from beginning to end; its exit code."""
        return self.wait(self.start(layout, **variables))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def journals(layout):
    """Each generation's entries, oldest first."""
    return [parse_entries(path.read_bytes())[0] for path in sorted(layout.journals.glob("*.jsonl"))]


def entries(layout, kind):
    """All entries of one kind."""
    return [entry.fields for journal in journals(layout) for entry in journal if entry.kind == kind]


def executed(layout):
    """The steps that were executed, in order, replayed ones as often as they were."""
    return [fields["step"] for fields in entries(layout, "step")]


def published(layout):
    """The names of the published checkpoints."""
    return [str(name) for name in checkpoints.published(layout)]


def checkpoint_path(layout, name):
    """The checkpoint of that name, a file or a directory."""
    return next(path for found, path in checkpoints.published(layout).items() if str(found) == name)


def write_directory(layout, name, state, metrics=None):
    """A checkpoint as a directory, as releases before the single file wrote it."""
    packer, directory = Packer(), layout.steps / str(name)
    directory.mkdir(parents=True)
    structures = {}
    for key, value in {checkpoints.RNG: determinism.capture_rng(), **state}.items():
        if callable(value):
            (directory / key).mkdir()
            value(directory / key)
        else:
            structures[key] = packer.pack(value, key)
    (directory / "_state.tree.json").write_text(json.dumps(structures))
    if packer.parts:
        write_tensor_file(directory / "_state.tree.safetensors", packer.parts.values(), {})
    hashes = {file: sha256_of(directory / file) for file in stored.files_in(directory)}
    fields = {"generation": name.generation, "step": name.step, "files": hashes, "metrics": metrics or {}}
    (directory / "manifest.json").write_text(json.dumps({**fields, "time": 1.5, "final": False, "processes": 1}))
    return directory


def final_weights(layout):
    """The final weights, by every bit."""
    (path,) = (path for path in (layout.final / "model").iterdir() if path.is_file())
    if path.suffix == ".npy":
        return {"weights": np.load(path).tobytes()}
    import torch

    weights = torch.load(path, weights_only=True)
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
