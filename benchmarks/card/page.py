"""The page that benchmarks/gpu.py prints, in Markdown."""

from collections.abc import Iterator, Sequence
from typing import Any

from card.session import CUBLAS, Result, Session
from measuring import machine_line
from tabulate import tabulate

NOTHING = "Nothing was measured"
"""The beginning of a page without figures; benchmarks/run then keeps an earlier section that has figures."""

HOW = """\
No figure here is of a GPU until one command has run where there is one: `python benchmarks/gpu.py`, ten minutes. If
that machine has no network, type `python benchmarks/gpu.py --pack gpu-pack` where there is one, copy the folder, and
type on the machine with the GPU: `python3 gpu-pack/source/benchmarks/gpu.py --from gpu-pack`.\
"""


def page_of(session: Session, taken: Sequence[str]) -> str:
    """Return the page. `taken`: the packages that came from a folder of `--pack`."""
    if session.card.failure:
        return f"{NOTHING}: {session.card.failure}\n\n{HOW}"
    card = session.card.rows[0]
    if not session.is_measured:
        return f"{NOTHING}: no GPU was there (torch {card['torch']} sees none).\n\n{HOW}"
    blocks = [_card(session, card, taken)]
    for kind, table in (
        ("train", _training),
        ("resume", _resume),
        ("deterministic", _prices),
        ("forecast", _forecasts),
    ):
        results = [each for each in session.results if each.part.kind == kind]
        blocks += table(results)
    failed = list(_failures(session))
    blocks.append("### Not measured\n\n" + "\n".join(failed) if failed else "Everything was measured.")
    return "\n\n".join(blocks)


def _card(session: Session, card: dict[str, Any], taken: Sequence[str]) -> str:
    lines = []
    if card["gpu"]:
        lines.append(
            f"{card['name']}, {card['memory']:.0f} GiB, {card['multiprocessors']} multiprocessors; driver "
            f"{card['driver']}, torch {card['torch']}, CUDA {card['cuda']}, transformers {card['transformers']}. A "
            f"bf16 product of two 8192 x 8192 matrices: {card['matmul'] / 1e12:.0f} TFLOP/s."
        )
    else:
        lines.append(f"No GPU was there: a trial on a CPU (torch {card['torch']}), whose figures mean nothing.")
    lines.append(machine_line() + ".")
    shape = "Qwen2.5-0.5B's shape" if not session.smoke else "a small shape and windows an eighth as long for the trial"
    tokenizer = "Qwen2.5's own tokenizer"
    if session.tokenizer is None:
        tokenizer = "`tiny`'s tokenizer, because Qwen2.5's own was not there (`--pack` fetches it)"
    lines.append(
        f"Model: {shape}, {card['layers']} layers, width {card['width']}, random weights; {tokenizer}. LoRA of rank 8 "
        f"on q and v, batch 4, AdamW. nf4: frozen weights in 4 bits, arithmetic in bf16."
    )
    if taken:
        lines.append(f"From the folder of `--pack`: {', '.join(taken)}.")
    return "\n\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def _training(results: Sequence[Result]) -> list[str]:
    rows = []
    for result in results:
        settings = result.part.settings
        rates = {row["way"]: row["rate"] for row in result.rows if "rate" in row}
        padded = next(iter(rates.values()), None) if "HF Trainer + PEFT, padded" in rates else None
        for row in result.rows:
            named = [settings["precision"], str(settings["context"]), row["way"]]
            if "failed" in row:
                rows.append([*named, "not measured", "", "", "", ""])
                continue
            ratio = f"{row['rate'] / padded:.2f}" if padded else ""
            peak = f"{row['peak']:.1f}" if row["peak"] else "-"
            spread = f"{row['repetitions']}, {row['spread']:.0%}"
            rows.append([*named, f"{row['rate']:.0f}", ratio, row["mfu"], peak, spread])
    header = [
        "weights",
        "context",
        "way",
        "real tokens/s",
        "x HF padded",
        "MFU, %",
        "peak, GiB",
        "reps x steps, spread",
    ]
    note = (
        "Real tokens are no padding. Medians of alternating repetitions; the spread is from least to most. Peak: "
        "memory of tensors, with the model, without CUDA's own. lvjobs trains by deterministic algorithms, HF Trainer "
        "does not. The numeric head is another objective."
    )
    return ["### Training", _table(header, rows), note]


def _resume(results: Sequence[Result]) -> list[str]:
    rows, start = [], []
    for row in (row for result in results for row in result.rows):
        named = [row["precision"], row["name"]]
        same = "yes" if row["same"] else "no"
        parted = f"at step {row['parted']}" if row["parted"] else "never"
        rows.append([*named, str(row["steps"]), str(row["repeated"]), same, parted])
        for words, seconds in (("a new run", row["new"]), ("a resumed run", row["resumed"])):
            numbers = [f"{seconds[key]:.1f}" for key in ("claimed", "first")]
            start.append([*named, words, *numbers, f"{1000 * seconds['step']:.0f}"])
    note = (
        f"`python -m lvjobs.worker` with its own settings: {CUBLAS}=:4096:8, torch's deterministic algorithms, sdpa "
        "attention. One run is left alone. The other one is killed with SIGKILL after its checkpoint at half of the "
        "steps, and resumed. Compared: the bytes of the final adapter, and the loss of each step."
    )
    header = ["weights", "lvjobs", "steps", "repeated", "the same adapter, bit for bit", "losses differ"]
    blocks = ["### Resume, bit for bit", _table(header, rows), note]
    header = ["weights", "lvjobs", "what starts", "claimed, s", "to the first step, s", "a step, ms"]
    note = (
        "Seconds from the start of the worker's process to the end of its first step, less an ordinary step. A new run "
        "validates first, 4 windows. Files are in the page cache."
    )
    return [*blocks, "### Start-up of a worker", _table(header, start), note]


def _prices(results: Sequence[Result]) -> list[str]:
    rows, operations = [], dict[str, None]()
    base: dict[bool, float] = {}
    for result in results:
        for row in result.rows:
            windows = "packed" if row["packing"] else "as it comes"
            named = [windows, row["cublas"], "on" if row["deterministic"] else "off", row["attention"]]
            if "failed" in row:
                rows.append([*named, "-", "", "does not run"])
                continue
            if row["deterministic"] and row["attention"] == "torch's choice" and row["cublas"] != "not set":
                base[row["packing"]] = row["rate"]
            own = base.get(row["packing"])
            same = "yes" if row["same"] else "no"
            rows.append([*named, f"{row['rate']:.0f}", f"{row['rate'] / own:.2f}" if own else "", same])
            if "operation" in row:
                operations[f"{windows}, {named[2]}: {row['operation']}"] = None
    header = ["windows", CUBLAS, "deterministic", "attention", "real tokens/s", "x lvjobs' own", "the same bits twice"]
    note = (
        "bf16, context 512, in one process: the same steps from the same state twice. lvjobs' own settings are "
        f":4096:8, on, torch's choice. torch's choice of attention, deterministic on and off: "
        f"{'; '.join(operations) or 'not seen'}."
    )
    return ["### What deterministic arithmetic costs", _table(header, rows), note]


def _forecasts(results: Sequence[Result]) -> list[str]:
    rows = []
    for result in results:
        for row in result.rows:
            peer = row["generate"]
            peers = [f"{peer:.1f}", f"{row['rate'] / peer:.2f}"] if isinstance(peer, float) else [peer, ""]
            rows.append([result.part.settings["precision"], f"{row['rate']:.1f}", *peers, str(row["series"])])
    header = ["weights", "lvjobs, forecasts/s", "`generate`, forecasts/s", "x `generate`", "series"]
    batch = next((row["batch"] for result in results for row in result.rows), 0)
    note = (
        f"Greedy, {batch} series at once, 80 steps of history, 20 forecast. `generate` writes 200 tokens a series "
        "under no grammar."
    )
    return ["### Forecasts", _table(header, rows), note]


def _failures(session: Session) -> Iterator[str]:
    named: dict[str, list[str]] = {}
    for result in session.results:
        for row in result.rows:
            if "failed" in row:
                named.setdefault(row["failed"], []).append(f"{result.part.title}, {_name(row)}")
        if result.failure:
            named.setdefault(result.failure, []).append(result.part.title)
    for words, names in named.items():
        yield f"- {'; '.join(names)}: {words}"
    card = session.card.rows[0]
    if not card["gpu"]:
        yield "- MFU and peak memory: no GPU was there."
    elif any(row.get("mfu") == "-" for result in session.results for row in result.rows):
        yield f"- MFU: the peak of {card['name']} is not in benchmarks/training.py."
    if session.smoke:
        yield "- Resume of the other settings: a trial kills and resumes one run."


def _name(row: dict[str, Any]) -> str:
    if "way" in row:
        return str(row["way"])
    return f"deterministic {'on' if row['deterministic'] else 'off'}, attention by {row['attention']}"
