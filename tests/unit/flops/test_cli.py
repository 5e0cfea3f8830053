"""`lvjobs flops`: the table fits, the JSON is whole, torch stays away, and what cannot be counted gets one line."""

import io
import json
import re
import subprocess
import sys
from dataclasses import asdict

import pytest
from rich.console import Console

from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.conventions import BINDING, CONVENTIONS
from lvjobs.flops.published import published
from lvjobs.flops.tables import print_counts, print_published
from lvjobs.flops.workload import PARTS, Workload
from lvjobs.forecasting.codec import ALPHABET
from lvjobs.study.params import NUMERIC_HEAD

HEAVY = {"torch", "transformers", "peft", "bitsandbytes"}


@pytest.fixture
def flops(monkeypatch, typed, tmp_path):
    """Types `lvjobs flops ...` where there is no study; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def type_command(*arguments):
        answer = typed("flops", *arguments)
        assert list(tmp_path.iterdir()) == []
        return answer

    return type_command


STUDY = ["--model", "qwen2.5-0.5b", "--context-length", "512", "--batch-size", "4", "--lora-rank", "4"]


def test_the_study_s_step_by_three_conventions(flops):
    code, out, err = flops(*STUDY)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split() == ["FLOPs", "published-formula", "official", "exact"]
    assert lines[11].split() == ["step", "1,592,231,160,498", "6,771,659,802,624", "4,341,130,940,416"]
    assert [line.rpartition("  ")[0].strip() != "" for line in lines[2:13]] == [True] * 11
    assert "\x1b" not in out  # no colours in a pipe


def test_json_is_whole(flops):
    _, out, _ = flops(*STUDY, "--json")
    found = json.loads(out)
    assert found["schema"] == 1
    assert found["configuration"] | {"architecture": None} == {
        "model": "qwen2.5-0.5b",
        "context_length": 512,
        "batch_size": 4,
        "lora_rank": 4,
        "lora_targets": "qv",
        "precision": "fp32",
        "gradient_checkpointing": False,
        "numeric_head": None,
        "prompt_tokens": 800,
        "new_tokens": 200,
        "samples": 1,
        "kv_cache": True,
        "inference": False,
        "architecture": None,
    }
    assert found["configuration"]["architecture"]["kv_heads"] == 2
    assert tuple(found["conventions"]) == BINDING
    for counts in found["conventions"].values():
        assert tuple(counts) == PARTS
        assert all(type(value) is int for value in counts.values())
    assert found["conventions"]["official"]["step"] == 6_771_659_802_624
    assert any("published-formula" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["--lora-targets", "all-linear"], {"lora_targets": "all-linear"}),
        (["--precision", "nf4"], {"precision": "nf4"}),
        (["--gradient-checkpointing"], {"gradient_checkpointing": True}),
        (["--numeric-head"], {"numeric_head": NUMERIC_HEAD}),
        (["--numeric-head", "11"], {"numeric_head": 11}),
        (["--inference"], {"inference": True}),
        (["--no-kv-cache"], {"kv_cache": False}),
        (["--prompt-tokens", "960", "--new-tokens", "240"], {"prompt_tokens": 960, "new_tokens": 240}),
        (["--samples", "20"], {"samples": 20}),
        (["--samples", "20", "--no-kv-cache"], {"samples": 20, "kv_cache": False}),
        (["--lora-rank", "0"], {"lora_rank": 0}),
        (["--batch-size", "1e1", "--context-length", "1_00"], {"batch": 10, "length": 100}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_each_option_reaches_what_is_counted(arguments, changes, flops):
    _, out, _ = flops("--model", "tiny", *arguments, "--json")
    workload = Workload(**{"shape": architecture_of("tiny"), "batch": 4, "length": 512, "lora_rank": 4, **changes})
    for name in BINDING:
        assert json.loads(out)["conventions"][name] == asdict(CONVENTIONS[name].count(workload))


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (["exact"], ["exact"]),
        (["exact", "published-formula", "exact"], ["published-formula", "exact"]),
        (["report", "exact"], ["published-formula", "exact"]),
        (["measured"], ["measured"]),
        (["all"], ["published-formula", "official", "exact", "measured"]),
    ],
    ids=" ".join,
)
def test_conventions_are_shown_as_asked_each_once(asked, shown, flops):
    named = [word for name in asked for word in ("--convention", name)]
    _, out, _ = flops("--context-length", 16, "--new-tokens", 1, "--json", *named)
    assert list(json.loads(out)["conventions"]) == shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "gpt-17"], ["gpt-17", "tiny", "smollm2-135m"]),
        (["--batch-size", "0"], ["batch size = 0"]),
        (["--batch-size", "ten"], ["--batch-size", "'ten' is not a number"]),
        (["--context-length", "1.5"], ["--context-length", "not a whole number"]),
        (["--new-tokens", "1e999999999"], ["--new-tokens", "out of range"]),
        (["--new-tokens", "nan"], ["--new-tokens", "out of range"]),
        (["--lora-targets", "k"], ["'k'", "qv, all-linear"]),
        (["--precision", "int8"], ["'int8'", "fp32, bf16, nf4"]),
        (["--precision", "nf4", "--lora-rank", "0"], ["nf4", "LoRA rank"]),
        (["--numeric-head", "19"], ["numeric head = 19", "18"]),
        (["--convention", "offical"], ["'offical'", "published-formula, official, exact, measured, all"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_counted_gets_one_line(arguments, words, flops):
    code, out, err = flops(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in err


def test_the_published_tables(flops):
    code, out, err = flops("--published")
    assert (code, err) == (0, "")
    for figure in published().table_1:
        assert re.search(
            rf"^{figure.name} +{figure.printed} +{figure.formula:,} +{figure.official:,}$", out, re.MULTILINE
        )
    for words in ("8.1e15", "7.186e+15", "8.101e+15", "4.5e16", "4.32e16", "4.243e+16", "3.4e5", "215,040"):
        assert words in out
    assert re.search(r"^total +4.5e16 +4.243e\+16 +1.775e\+17$", out, re.MULTILINE)
    assert "official rules, base, stage 1, stage 2, final, total: the LoRA step" in out
    _, out, _ = flops("--published", "--json")
    found = json.loads(out)
    assert found["schema"] == 1
    assert found["published"]["table_1"][-1]["formula"] == 4_692_891_841_470
    assert found["published"]["table_1"][-1]["official"] == 6_767_168_882_688
    assert found["published"]["elsewhere"][-1]["official"] is None


@pytest.mark.parametrize("width", [66, 80, 160])
@pytest.mark.parametrize("model", ["tiny", "qwen2.5-7b"])
@pytest.mark.parametrize("shown", [BINDING, (*BINDING, "measured")], ids=len)
def test_the_table_fits(width, model, shown):
    workload = Workload(architecture_of(model), 4, 512, 4, kv_cache=False)
    counts = CONVENTIONS["exact"].count(workload)
    stream = io.StringIO()
    print_counts(model, workload, dict.fromkeys(shown, counts), Console(file=stream, width=width))
    lines = stream.getvalue().splitlines()
    table = lines[1 : 2 + len(PARTS) + ("formula" in lines[2])]
    assert max(map(len, table)) <= width
    assert "…" not in stream.getvalue()
    last = table[-1].split()
    in_full = f"{counts.generation:,}"
    assert last[1:] in ([in_full] * len(shown), [f"{counts.generation:.3e}"] * len(shown))
    assert (last[1] == in_full) == (22 + len(shown) * (len(in_full) + 2) <= width + 2)


def test_the_published_tables_fit():
    stream = io.StringIO()
    print_published(published(), Console(file=stream, width=80))
    rows = [line for line in stream.getvalue().splitlines() if ": " not in line or line.endswith("e+16")]
    assert max(map(len, rows)) <= 80


def test_a_numeric_head_alone_is_what_a_series_is_written_with():
    assert len(ALPHABET) == NUMERIC_HEAD


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--published"], ["--help"]], ids=" ".join)
def test_torch_is_not_loaded(arguments, tmp_path):
    assert loaded(arguments, tmp_path) & HEAVY == set()


@pytest.mark.slow
def test_torch_is_loaded_to_measure(tmp_path):
    """The test above can fail."""
    assert {"torch", "transformers", "peft"} <= loaded(["--convention", "measured", "--context-length", 8], tmp_path)


def loaded(arguments, directory):
    code = (
        "import sys\nfrom lvjobs.cli import cli\n"
        "cli(['flops', *sys.argv[1:]], standalone_mode=False)\n"
        "print('MODULES', *sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=directory, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {name.split(".")[0] for name in done.stdout.rpartition("MODULES")[2].split()}
