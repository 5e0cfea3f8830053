"""`lvjobs data` and `lvjobs model`: what runs read."""

from dataclasses import asdict
from pathlib import Path

import click

from lvjobs.cli.common import json_option, print_found
from lvjobs.cli.help import Group
from lvjobs.errors import UsageError


@click.group(cls=Group)
def data() -> None:
    """Make or check input data."""


@data.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("data.h5"))
@click.option("--systems", default=1000, show_default=True, help="Number of predator-prey systems.")
@click.option("--seed", default=0, show_default=True, help="Seed of the systems' parameters.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def make(file: Path, systems: int, seed: int, force: bool) -> None:
    """Write FILE (HDF5: /time, /trajectories) by solving the Rosenzweig-MacArthur law for random systems."""
    from lvjobs.forecasting.data import make_dataset

    if file.exists() and not force:
        raise UsageError(f"{file} exists; name another file, or overwrite it with --force")
    make_dataset(file, systems=systems, seed=seed)
    click.echo(f"{file}: {systems} systems, 100 steps, 2 variables")


@click.group(cls=Group)
def model() -> None:
    """Fetch, check or convert base models."""


_DECIMALS = click.option(
    "--decimals", type=click.IntRange(1, 6), default=2, show_default=True, help="Decimals per value, as in [train]."
)


@model.command()
@click.argument("hub_id")
@_DECIMALS
@json_option
def pull(hub_id: str, decimals: int, as_json: bool) -> None:
    """Download HUB_ID into the cache that jobs read (HF_HOME), and check it.

    Needs a network: run it on a login node. Existing files are not downloaded again.
    """
    from lvjobs.forecasting.hub import pull as fetch

    _print_model(fetch(hub_id), decimals, as_json)


@model.command()
@click.argument("name", metavar="MODEL")
@_DECIMALS
@json_option
def check(name: str, decimals: int, as_json: bool) -> None:
    """Check whether a job on this machine can use MODEL: a hub id, a directory, or tiny. Needs no network."""
    from lvjobs.flops.architecture import hub_id_of

    _print_model(name if Path(name).is_dir() else hub_id_of(name), decimals, as_json)


@model.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Precision of the written weights; bf16 halves the size and rounds again.",
)
@_DECIMALS
@json_option
def convert(file: Path, directory: Path, precision: str, decimals: int, as_json: bool) -> None:
    """Write FILE.gguf as a model in DIRECTORY, which --model takes: safetensors, tokenizer and chat template.

    Needs the package gguf (pip install 'lvjobs[gguf]'), and memory for the unpacked weights twice.
    """
    from lvjobs.forecasting.convert import convert as write

    write(file, directory, "bf16" if precision == "bf16" else "fp32")
    _print_model(str(directory), decimals, as_json)


def _print_model(name: str, decimals: int, as_json: bool) -> None:
    from lvjobs.flops.architecture import architecture_of, card_of
    from lvjobs.forecasting.base_weights import sha256_of_weights
    from lvjobs.forecasting.chronos_models import find_chronos, is_chronos
    from lvjobs.forecasting.hub import find_model

    if is_chronos(name):
        made = find_chronos(name)
        numbers = {"directory": str(made.directory), "parameters": made.parameters, "pipeline": made.pipeline}
        digest = sha256_of_weights(made.directory)
        lines = [
            f"{name}: complete, in {made.directory}",
            f"  parameters {_count(made.parameters)}",
            f"  weights    SHA-256 {digest}",
            f"  pipeline   {made.pipeline}: usable as a baseline: --baseline chronos:{name}",
        ]
        print_found({"schema": 1, "model": name, **numbers, "weights_sha256": digest}, lines, as_json=as_json)
        return
    found = find_model(name, decimals)
    digest = sha256_of_weights(found.directory)
    try:
        shape, problem = asdict(architecture_of(name)), None
    except UsageError as error:  # the model's files are shown anyway
        shape, problem = None, str(error)
    card = card_of(name)
    details = {
        "schema": 1,
        "model": name,
        "directory": str(found.directory),
        "parameters": found.parameters,
        "weights_sha256": digest,
        "chat_template": found.chat_template,
        "tokenizer_checked": found.split is not None,
        "split_pairs": list(found.split or ()),
        "card": card,
        "architecture": shape,
        "problem": problem,
    }
    lines = [
        f"{name}: complete, in {found.directory}",
        f"  parameters {_count(found.parameters)}",
        f"  weights    SHA-256 {digest}",
        f"  tokenizer  {_tokenizer(found.split)}",
        f"  instruct   {'has a chat template' if found.chat_template else 'no chat template: raw only'}",
        f"  FLOPs      {problem or (f'by the card {card}' if card else 'by its own config.json')}",
    ]
    print_found(details, lines, as_json=as_json)
    if problem and not as_json:
        raise UsageError(f"{name}: its FLOPs cannot be counted, so no run of it can be submitted; see FLOPs above")


def _count(parameters: int | None) -> str:
    return "stored packed, not counted" if parameters is None else f"{parameters:,}"


def _tokenizer(split: tuple[str, ...] | None) -> str:
    if split is None:
        return "no tokenizer.json to check here; each job checks it at its start"
    apart = f" ({' '.join(split)} are split)" if split else ""
    return f"one token per character of a series{apart}"
