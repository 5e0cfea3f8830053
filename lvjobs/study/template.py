"""The study.toml that `lvjobs init` writes: every key, with its default and what it means."""

import json
from collections.abc import Mapping
from typing import Any

from lvjobs.study.presets import STUDIES
from lvjobs.study.stages import Stage

_TEMPLATE = """\
# A study: what is trained, where, and what it may cost. Lines that begin with # show defaults.
# Numbers may be written as people write them: 1e-5, 1e17, 5_000.

profile = {profile}            # local, lab, generic, csd3-ampere, csd3-icelake, isambard-ai, jade, perlmutter, a file
# local_slots = 1              # jobs at once on the local backend

[resources]                    # what a job asks for; keys left out are the profile's
{resources}
[driver]                       # the tiny job that makes passes while nobody is there (docs/driver.md); Slurm only
# job = true                   # false: no such job; keep lvjobs watch running, or lvjobs driver install
# partition = "icelake"        # left out: the runs' own; so are account and qos. Best is one without GPUs

[notify]                       # who is told, once, that the study has ended or something is held
# mail = "me"                  # an address; "me": the one that the site has of you. Slurm only
# webhook = "https://..."      # gets JSON, as the chats of Slack, Mattermost and Discord take it

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
# lora_targets = "qv"          # "qv" or "all-linear"
# learning_rate = 1e-5
# schedule = "cosine"          # "cosine", "linear" or "constant"
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
# backoff_seconds = 30         # doubled each time, from the second death on; an hour at most
# hung_seconds = 1800          # no journal line for longer: hung
# lost_seconds = 120           # in neither squeue nor sacct for longer: lost

# Stages follow one another by themselves: lvjobs sweep STAGE, or lvjobs sweep all; lvjobs sweep plan says what they
# cost. A stage `from` another takes over what that one's winner differs in. More keys: docs/sweeps.md.
{stages}"""

_KEYS = {
    "partition": ("", 'Slurm partition, or several: ["ampere", "ampere-long"]'),
    "account": ("", "who pays"),
    "qos": ("", "quality of service, or several in order of preference"),
    "time_limit": ("12:00:00", 'of one job; a run may take many. "auto": by measured step times'),
    "gpus": (1, "of one node; a training uses them all"),
    "processes": (1, "that train one run together; left out: one a GPU"),
    "cpus": (1, ""),
    "memory_mb": (8000, "raised by half after an out-of-memory, twice at most"),
    "signal_lead_seconds": (90, "how long before the time limit the worker is told"),
    "max_parallel": (4, "members of one array that may run at once"),
    "pack": (9, "runs that share one job, and wait in the queue once; left out: each has its own"),
    "side_by_side": (3, "of a pack's runs; left out: one after another"),
    "max_queued": (0, "jobs you may have in the queue; the rest follows. 0: what the site says"),
}


def study_toml(profile: str, account: str | None, defaults: Mapping[str, Any], preset: str) -> str:
    """The text of a study.toml for `profile`, whose own `defaults` are shown as comments; with a preset's stages."""
    train, stages = STUDIES[preset]
    lines = []
    for key, (example, comment) in _KEYS.items():
        value = account if key == "account" and account else _default(key, defaults, example)
        entry = f"{key} = {json.dumps(value)}"
        text = entry if key == "account" and account else f"# {entry}"
        lines.append(f"{text:<30} # {comment}" if comment else text)
    blocks = "\n".join(_stage_toml(stage) for stage in stages)
    text = _TEMPLATE.format(profile=json.dumps(profile), resources="\n".join(lines) + "\n", stages=blocks)
    return _with_settings(text, train)


def _with_settings(text: str, train: Mapping[str, Any]) -> str:
    """With these keys of [train] set where their defaults stand as comments, or at the table's end."""
    lines = text.split("\n")
    begins = next(number for number, line in enumerate(lines) if line.startswith("[train]"))
    ends = lines.index("", begins)
    for key, value in train.items():
        entry = f"{key} = {_toml(value)}"
        place = next((n for n in range(begins, ends) if lines[n].startswith(f"# {key} =")), None)
        if place is None:
            lines.insert(ends, entry)
            ends += 1
        else:
            _, hash_, comment = lines[place][2:].partition("#")
            lines[place] = f"{entry:<30} # {comment.strip()}" if hash_ else entry
    return "\n".join(lines)


def _stage_toml(stage: Stage) -> str:
    values = stage.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return "[[stage]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: Any) -> str:
    """On one line: tables within a stage are inline."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _default(key: str, defaults: Mapping[str, Any], example: Any) -> Any:
    if key == "time_limit" and "time_limit_minutes" in defaults:
        minutes = int(defaults["time_limit_minutes"])
        return f"{minutes // 60:02d}:{minutes % 60:02d}:00"
    value = defaults.get(key, example)
    return example if value is None else value
