"""The study.toml that `lvjobs init` writes: every key, with its default and what it means."""

import json
from collections.abc import Mapping
from typing import Any

_TEMPLATE = """\
# A study: what is trained, where, and what it may cost. Lines that begin with # show defaults.
# Numbers may be written as people write them: 1e-5, 1e17, 5_000.

profile = {profile}            # local, or a file of slurm_templates (csd3-ampere, csd3-icelake, generic, lab)
# local_slots = 1              # jobs at once on the local backend

[resources]                    # what a job asks for; keys left out are the profile's
{resources}
[train]                        # defaults of `lvjobs submit train`, and what every stage starts from
# model = "tiny"               # tiny, a directory, or a hub id such as "Qwen/Qwen2.5-0.5B-Instruct"
# data = "data.h5"             # HDF5 with /time (T,) and /trajectories (N, T, 2); `lvjobs data make` writes one
# steps = 5000
# context_length = 512         # tokens of a training window
# batch_size = 4
# accumulate = 1               # batches whose gradients make one step; each is paid for
# compile = false              # true: steps by torch.compile; needs a compiler where the job runs
# gradient_checkpointing = false # true: less memory, layers run again (docs/training.md)
# lora_rank = 4
# lora_alpha =                 # left out: the rank
# lora_dropout = 0.05
# lora_targets = "qv"          # or "all-linear"
# learning_rate = 1e-5
# schedule = "cosine"          # or "linear", "constant"
# warmup_steps = 0
# validation_systems =         # left out: a tenth of the systems that may train; 0: those that are scored
# early_stopping_patience =    # left out: never; else validations in a row without a better loss that end the run
# early_stopping_delta = 0     # how much lower a better loss is at least
# seed = 0
# checkpoint_every = 250
# validate_every =             # left out: with every checkpoint
# threads = 1                  # pinned: another number is another arithmetic, and resuming is no longer bitwise

[budget]
# limit = 1e17                 # FLOPs for everything; nothing starts that would go beyond (lvjobs budget set)
# convention = "official"      # or "exact", "report": see lvjobs flops
# count_inference = true       # whether validation and evaluation count
# renew = true                 # false: a run whose replays used up its reservation is held, even if FLOPs are free

[evaluation]
# series = 200                 # held-out systems forecast with each run of a stage once it is trained; 0: none

[policy]                       # how often each cause of death is forgiven; see docs/design.md
# killed_retries = 5
# out_of_memory_retries = 2
# no_progress_deaths = 3       # deaths in a row without a new checkpoint
# backoff_seconds = 30         # doubled each time, from the second death on
# hung_seconds = 1800          # no journal line for longer: hung
# lost_seconds = 120           # in neither squeue nor sacct for longer: lost

[[stage]]
name = "stage1"
steps = 500
grid = {{ lora_rank = [2, 4, 8], learning_rate = [1e-4, 5e-5, 1e-5] }}
"""

_KEYS = {
    "partition": ("", "Slurm partition"),
    "account": ("", "who pays"),
    "qos": ("", "quality of service"),
    "time_limit": ("12:00:00", "of one job; a run may take many"),
    "gpus": (1, "of one node; a training uses them all"),
    "processes": (1, "that train one run together; left out: one a GPU"),
    "cpus": (1, ""),
    "memory_mb": (8000, "raised by half after an out-of-memory, twice at most"),
    "signal_lead_seconds": (90, "how long before the time limit the worker is told"),
    "max_parallel": (4, "members of one array that may run at once"),
}


def study_toml(profile: str, account: str | None, defaults: Mapping[str, Any]) -> str:
    """The text of a study.toml for `profile`, whose own `defaults` are shown as comments."""
    lines = []
    for key, (example, comment) in _KEYS.items():
        value = account if key == "account" and account else _default(key, defaults, example)
        entry = f"{key} = {json.dumps(value)}"
        text = entry if key == "account" and account else f"# {entry}"
        lines.append(f"{text:<30} # {comment}" if comment else text)
    return _TEMPLATE.format(profile=json.dumps(profile), resources="\n".join(lines) + "\n")


def _default(key: str, defaults: Mapping[str, Any], example: Any) -> Any:
    if key == "time_limit" and "time_limit_minutes" in defaults:
        minutes = int(defaults["time_limit_minutes"])
        return f"{minutes // 60:02d}:{minutes % 60:02d}:00"
    value = defaults.get(key, example)
    return example if value is None else value
