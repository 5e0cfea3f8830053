"""`lvjobs flops`."""

from dataclasses import asdict
from functools import partial
from typing import Any

import click

from lvjobs.cli.common import json_option, print_json
from lvjobs.cli.help import Command
from lvjobs.errors import UsageError
from lvjobs.flops.conventions import BINDING, CONVENTIONS, caveats, chosen
from lvjobs.study.fields import as_float, as_int
from lvjobs.study.params import NUMERIC_HEAD, TrainingConfig

_ABSURD = 1e15


def _whole(_context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Parse a whole number, which may be written as 1e6.

    Raises:
        UsageError: the value is not a whole number, or is out of range.
    """
    if value is None:
        return None
    try:
        if abs(as_float(value)) < _ABSURD:  # checked first: as_int would write out all digits of 1e999999999
            return int(as_int(value))
    except ValueError as error:
        raise UsageError(f"{option.opts[0]}: {error}; write one, such as {option.default}") from None
    raise UsageError(f"{option.opts[0]}: {value} is out of range; give a smaller number")


_number = partial(click.option, show_default=True, callback=_whole, metavar="N")


def _default(key: str) -> str:
    """Return the default of `submit train` for this setting, as text."""
    return str(TrainingConfig.model_fields[key].default)


def _described(convention: str) -> str:
    return convention if convention in BINDING else f"{convention} (loads torch, takes seconds)"


@click.command(cls=Command)
@click.option(
    "--model",
    default=_default("model"),
    show_default=True,
    help="tiny, qwen2.5-0.5b (1.5b, 3b, 7b), smollm2-135m, a hub id of these, or a config.json or its directory.",
)
@_number("--context-length", "length", default=_default("context_length"), help="Sequence length in tokens.")
@_number("--batch-size", "batch", default=_default("batch_size"), help="Sequences per step.")
@_number("--lora-rank", "lora_rank", default=_default("lora_rank"), help="LoRA rank; 0 trains all weights.")
@click.option(
    "--lora-targets", default=_default("lora_targets"), show_default=True, help="qv or all-linear.", metavar="NAME"
)
@click.option(
    "--precision", default=_default("precision"), show_default=True, help="fp32, bf16 or nf4.", metavar="NAME"
)
@click.option("--gradient-checkpointing", is_flag=True, help="Recompute activations in the backward pass.")
@click.option(
    "--numeric-head",
    is_flag=False,
    flag_value=str(NUMERIC_HEAD),
    callback=_whole,
    metavar="[N]",
    help=f"Restrict the lm_head to N tokens ({NUMERIC_HEAD} if N is omitted).",
)
@click.option("--inference", is_flag=True, help="Count a forward pass only.")
@click.option("--no-kv-cache", is_flag=True, help="Count generation without a KV cache.")
@_number("--prompt-tokens", "prompt_tokens", default="800", help="Prompt length in tokens.")
@_number("--new-tokens", "new_tokens", default="200", help="Tokens to generate.")
@_number("--samples", "samples", default="1", help="Samples per prompt.")
@click.option(
    "--convention",
    "names",
    multiple=True,
    metavar="NAME",
    help=f"{', '.join(_described(name) for name in CONVENTIONS)} or all. Repeatable.  [default: those without torch]",
)
@click.option(
    "--published",
    is_flag=True,
    help="Show the published study's figures beside its formula and the official rules.",
)
@json_option
def flops(model: str, no_kv_cache: bool, names: tuple[str, ...], published: bool, as_json: bool, **given: Any) -> None:
    """Show the FLOPs of a training step, by convention (docs/flops.md). Needs no study."""
    from lvjobs.flops.architecture import architecture_of
    from lvjobs.flops.workload import Workload

    if published:
        from lvjobs.flops.published import published as found
        from lvjobs.flops.tables import print_published

        if as_json:
            print_json({"schema": 1, "published": asdict(found())})
        else:
            print_published(found())
        return
    wanted = chosen(names)
    workload = Workload(shape=architecture_of(model), kv_cache=not no_kv_cache, **given)
    results = {name: CONVENTIONS[name].count(workload) for name in wanted}
    if as_json:
        configuration = {
            "model": model,
            "context_length": workload.length,
            "batch_size": workload.batch,
            **{name: value for name, value in asdict(workload).items() if name not in ("shape", "batch", "length")},
            "architecture": asdict(workload.shape),
        }
        conventions = {name: asdict(counts) for name, counts in results.items()}
        notes = caveats(workload, wanted)
        print_json({"schema": 1, "configuration": configuration, "conventions": conventions, "notes": notes})
        return
    from lvjobs.flops.tables import print_counts

    print_counts(model, workload, results)
