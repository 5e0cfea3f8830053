"""The help of every command: groups, sections, examples; and what a mistyped command, option or value suggests."""

import shlex

import click
import pytest
from click.testing import CliRunner

from lvjobs.cli import _COMMANDS, _GROUPS, _OLDER_NAMES, cli
from lvjobs.cli.examples import EXAMPLES

ROOT = click.Context(cli, info_name="lvjobs")


def commands(command=cli, path=()):
    """Yield the words and the command of each command, groups included."""
    if path:
        yield " ".join(path), command
    if isinstance(command, click.Group):
        for name in command.list_commands(ROOT):
            yield from commands(command.get_command(ROOT, name), (*path, name))


EVERY = dict(commands())


def shown(*words):
    result = CliRunner().invoke(cli, [*words, "--help"], prog_name="lvjobs", terminal_width=100)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*words):
    result = CliRunner().invoke(cli, list(words), prog_name="lvjobs")
    assert result.exit_code == 2, result.output
    return result.output


def test_the_commands_are_in_six_groups():
    text = shown()
    assert list(_GROUPS) == ["Set up", "Run", "Look", "Cost", "Results", "Upkeep"]
    places = [text.index(f"\n{group}:\n") for group in _GROUPS]
    assert places == sorted(places)
    assert all(f"\n  {name} " in text for name in _COMMANDS.keys() - _OLDER_NAMES.keys())
    assert not any(f"\n  {name} " in text for name in _OLDER_NAMES)


def test_every_command_has_two_examples():
    assert set(EXAMPLES) == set(EVERY)
    assert [name for name, examples in EXAMPLES.items() if len(examples) < 2] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_shown_and_can_be_typed(name):
    text = shown(*name.split())
    for line, purpose in EXAMPLES[name]:
        assert f"  {line}\n" in text
        assert purpose.endswith(".")
        if "$(" in line:
            continue
        words = shlex.split(line.partition(" > ")[0].partition(" >> ")[0], posix=True)
        assert words.pop(0) == "lvjobs"
        command, context = cli, ROOT
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found, inner, words = command.resolve_command(context, words)
            command, context = inner, click.Context(inner, info_name=found, parent=context)
        command.make_context(name, words, parent=context.parent, resilient_parsing=True)


@pytest.mark.parametrize("name", ["submit train", "submit run", "sweep stage1", "resume", "evaluate", "doctor"])
def test_resources_are_a_section_of_their_own_with_gpus(name):
    text = shown(*name.split())
    resources = text[text.index("\nResources:\n") :]
    assert text.index("\nOptions:\n") < text.index("\nResources:\n")
    for option in ("--gpus", "--partition", "--time-limit", "--memory-mb"):
        assert option in resources


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("stauts",), "Did you mean: lvjobs status"),
        (("ls",), "Did you mean: lvjobs status"),
        (("rm", "x"), "Did you mean: lvjobs cancel"),
        (("budget", "1e17"), "Did you mean: lvjobs budget set 1e17"),
        (("submit", "trian"), "Did you mean: lvjobs submit train"),
        (("submit", "train", "--lr", "1e-4"), "Did you mean --learning-rate?"),
        (("submit", "train", "--learning_rate", "1e-4"), "Did you mean --learning-rate?"),
        (("submit", "train", "--gpu", "1"), "Did you mean --gpus?"),
        (("status", "--sutdy", "x"), "Did you mean --study?"),
        (("evaluate", "--zero-shot", "inst"), "Did you mean 'instruct'?"),
    ],
)
def test_a_mistyped_word_suggests_what_was_meant(words, meant):
    assert meant in refused(*words)


def test_a_word_like_nothing_suggests_nothing():
    assert "Did you mean" not in refused("zzzzzz")
    assert "Did you mean" not in refused("status", "--zzzzzz")


@pytest.mark.parametrize("command", ["evaluate", "forecast"])
def test_a_run_keeps_the_training_settings_that_it_has(command):
    assert "No such option: --lora-rank" in refused(command, "x", "--lora-rank", "8")
