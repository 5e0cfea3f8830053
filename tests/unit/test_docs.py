"""The pages: what is linked is there, what is shown parses, what is typed can be typed, what is generated is fresh."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from docs_blocks import (
    PAGES,
    ROOT,
    Block,
    anchors,
    blocks_of,
    commands,
    heredocs,
    indented_commands,
    inline_commands,
    links,
    shell_lines,
)
from packaging.version import Version

from lvjobs.cli import cli
from lvjobs.errors import UsageError
from lvjobs.remedies import registry
from lvjobs.study.config import StudyConfig, study_model, validated
from lvjobs.study.words import Cause

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
GENERATED = {"changes.md": ROOT / "CHANGELOG.md"}
"""Pages of the site that are made of files beside docs/ (scripts/site_hooks.py)."""


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_builds_without_a_warning(tmp_path):
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install 'lvjobs[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "site").glob("*.html")}
    assert {page.stem for page in PAGES if page.stem != "README"} <= {name.removesuffix(".html") for name in pages}
    fetched = [name for name, text in pages.items() if 'src="http' in text or 'rel="preconnect"' in text]
    assert fetched == [], "read without a network"


@BY_NAME
def test_every_link_leads_somewhere(page):
    wrong = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        target = GENERATED.get(path, target)
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One thing\n\n[a](#one-thing) [b](missing.md) [c](https://example.org) `[d](code)`\n")
    assert links(page) == ["#one-thing", "missing.md"]
    assert anchors(page) == {"one-thing"}


def check_toml(text, source):
    """It parses, and is a study.toml where it has a key of one."""
    values = tomllib.loads(text)
    if set(values) & set(StudyConfig.model_fields):
        validated(study_model(values), values, source)


@BY_NAME
def test_toml_json_and_python_parse(page):
    for block in blocks_of(page):
        if block.language == "toml":
            check_toml(block.text, str(block))
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "python":
            ast.parse(block.text + "def decorated(): ...\n", str(block))  # some show decorators alone
        for written in heredocs(block):
            check_toml(written, str(block))


QUESTIONS = re.compile(r"(What|Whether|Where|When|Which|Who|Whom|Why|How|That)\b")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("place", ["lvjobs", "tests"])
def test_no_docstring_opens_like_a_question(place):
    """A function's begins with an imperative, that of a class or a module with a noun phrase."""
    wrong = [
        (str(path.relative_to(ROOT)), text.partition("\n")[0])
        for path in (ROOT / place).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, DOCUMENTED) and QUESTIONS.match(text := ast.get_docstring(node) or "")
    ]
    assert wrong == []


def test_a_study_toml_with_a_typo_is_found():
    with pytest.raises(UsageError, match="did you mean 'learning_rate'"):
        check_toml("[train]\nlearning_rat = 1e-5\n", "page.md:1")
    check_toml("[project]\nname = 'x'\n", "page.md:1")


def parse(arguments, command=cli, parent=None, name="lvjobs"):
    """Read a command line as click would, without running anything or asking for files."""
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        ignore_unknown_options=command.ignore_unknown_options,
        allow_interspersed_args=command.allow_interspersed_args,
    )
    values, rest, _ = command.make_parser(context).parse_args(list(arguments))
    for parameter in command.get_params(context):
        value = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            parameter.type.convert(value, parameter, context)
    if isinstance(command, click.Group):
        if rest:
            inner_name, inner, rest = command.resolve_command(context, rest)
            parse(rest, inner, context, inner_name or rest[0])
    elif rest:
        raise click.UsageError(f"{context.command_path} takes no {' '.join(rest)!r}")


def lines_of(page):
    for block in blocks_of(page, "sh", "console"):
        for line in shell_lines(block):
            yield str(block), line
    for line in indented_commands(page):
        yield page.name, line


def problem(line):
    """Return the reason for which the line could not be typed, or None."""
    try:
        for arguments in commands(line):
            is_program = arguments[:2] in (["submit", "run"], ["rehearse", *arguments[1:2]]) and "--" in arguments
            parse(arguments[: arguments.index("--")] if is_program else arguments)
    except (click.ClickException, ValueError) as error:
        return getattr(error, "message", error)
    return None


@BY_NAME
def test_every_command_that_is_shown_can_be_typed(page):
    assert [f"{where}: {line}: {problem(line)}" for where, line in lines_of(page) if problem(line)] == []


@BY_NAME
def test_every_command_in_a_sentence_exists(page):
    """Options and values there are abbreviated now and then; commands are not."""
    known = {*cli.list_commands(click.Context(cli))}
    named = [words.split()[1].rstrip(",") for words in inline_commands(page)]
    assert [name for name in named if name[0] not in "-[<." and not name.isupper() and name not in known] == []


@pytest.mark.parametrize(
    "line",
    [
        "lvjobs statu",
        "lvjobs status --al",
        "lvjobs submit train --modle tiny",
        "lvjobs sweep stage1 --winer x",
        "lvjobs init --preset publisched",
        "cd study && lvjobs budget sett 1",
        'eval "$(lvjobs lab environment)"',
        "lvjobs watch everything",
        "lvjobs submit run --flop 6e9 -- python train.py",
        "lvjobs rehearse --progres x -- python train.py",
        "lvjobs watch -- everything",
    ],
)
def test_a_command_that_cannot_be_typed_is_found(line):
    assert problem(line)


def test_a_block_knows_what_is_typed_in_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Words.\n\n```console\n$ lvjobs status  # now\nlvjobs: said\n```\n\n- a\n\n    ```sh\n    lvjobs \\\n      budget\n    ```\n"
    )
    first, second = blocks_of(page, "sh", "console")
    assert (first.line, second.line) == (3, 10)
    assert [list(commands(line)) for line in shell_lines(first)] == [[["status"]]]
    assert [list(commands(line)) for line in shell_lines(second)] == [[["budget"]]]
    assert heredocs(Block(page, 1, "sh", "cat > a <<'END'\nx = 1\nEND\n")) == ["x = 1\n"]


@pytest.mark.parametrize("name", ["cli.md", "study-toml.md", "api-reference.md"])
def test_a_generated_page_is_fresh(name):
    if name == "cli.md" and Version(version("click")) < Version("8.2"):
        pytest.skip("older releases of click word the usage of groups otherwise")
    made = script("make_reference").PAGES[name]()
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == made, f"docs/{name} is not what the code gives any more; type: python scripts/make_reference.py"


def test_the_readme_shows_what_the_tutorial_shows():
    """The README says that its first block is from the tutorial."""
    (shown,) = [block.text for block in blocks_of(ROOT / "README.md", "console") if "lvjobs status final" in block.text]
    history = shown.partition("lvjobs status final\n")[2].strip()
    assert "completed at step 120" in history
    assert any(block.text.strip() == history for block in blocks_of(ROOT / "docs" / "tutorial.md", "text"))


def test_the_page_of_errors_is_fresh():
    module = script("make_errors")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(registry()), "type: python scripts/make_errors.py"
    headings = [line for line in module.PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
    assert headings == [f"## {title}" for title in module._BEGIN.values()]


def test_each_test_that_slurms_behaviour_names_is_there():
    text = (ROOT / "docs" / "slurm-behaviour.md").read_text(encoding="utf-8")
    shown, _, rest = text.partition("## Not shown by a test")
    rows = [line for line in shown.splitlines() if line.startswith("| ") and not line.startswith("| observation ")]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row) for row in rows]
    assert len(rows) > 40
    assert rest
    assert [row for row, tests in zip(rows, named, strict=True) if len(tests) != 1] == [], "a line without its test"
    files = {path for tests in named for path, _ in tests}
    there = {
        path: set(re.findall(r"(?m)^def (test_\w+)\(", (ROOT / path).read_text(encoding="utf-8"))) for path in files
    }
    assert [name for tests in named for path, name in tests if name not in there[path]] == []


def test_every_key_and_every_option_says_what_it_means():
    """The last column of every table of the generated pages."""
    wordless = []
    for name, made in script("make_reference").PAGES.items():
        rows = [line.split(" | ") for line in made().splitlines() if line.startswith("| `")]
        wordless += [f"{name}: {row[0]}" for row in rows if not row[-1].strip(" |")]
    assert wordless == []


def test_no_help_shows_the_mark_of_a_paragraph_that_is_not_wrapped():
    """In a raw docstring, click does not find its mark: it shows the mark, and wraps the examples into one line."""
    assert "\\b" not in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["design.md", "json.md"])
def test_a_page_lists_each_cause_of_failure(page):
    (line,) = [
        line for line in (ROOT / "docs" / page).read_text().splitlines() if "preempted, timeout, node_fail" in line
    ]
    assert [cause.value for cause in Cause if not re.search(rf"\b{cause.value}\b", line)] == []
