"""A deterministic training of the standard library, which saves, resumes, fails and stops in every way that a test asks for."""

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

CHUNKS = 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--every", type=int, default=5, help="steps between checkpoints")
    parser.add_argument("--out", type=Path, default=Path("out"))
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--in-place", action="store_true", help="overwrite OUT/checkpoint.json; the default renames it")
    way.add_argument("--named", action="store_true", help="OUT/checkpoint-<step>.json, written under its final name")
    way.add_argument("--marker", metavar="NAME", help="OUT/checkpoint-<step>/state.json, then this file in it")
    parser.add_argument("--resume", metavar="PATH", help="a checkpoint, or auto: the newest one, whole or torn")
    parser.add_argument("--ignore-resume", action="store_true", help="accept --resume and begin at step 0")
    parser.add_argument("--seconds-per-step", type=float, default=0)
    parser.add_argument("--slow-save", metavar="SECONDS", type=float, default=0, help="time that a save takes")
    parser.add_argument("--size", metavar="BYTES", type=int, default=0, help="size of a checkpoint's state")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from-zero", action="store_true", help="print the first step as 0")
    parser.add_argument("--exit-at", metavar="STEP:CODE", help="exit after this step and its checkpoint")
    parser.add_argument("--raise-at", metavar="STEP", type=int, help="raise after this step and its checkpoint")
    parser.add_argument("--hang-at", metavar="STEP", type=int, help="sleep for ever after this step and its checkpoint")
    parser.add_argument("--once", metavar="PATH", type=Path, help="exit, raise or hang only where this file is absent")
    parser.add_argument("--trap", metavar="SIGNAL:save|exit0|ignore", help="TERM:save saves, then exits with 0")
    parser.add_argument("--children", metavar="K", type=int, default=0, help="processes that sleep for ever")
    parser.add_argument(
        "--gates",
        metavar="PATH",
        type=Path,
        help="wait after a step while a file here has its number, and none is trapped",
    )
    parser.add_argument("--write-at", metavar="PATH", type=Path, help="a file that gets the number of each step")
    return parser.parse_args()


def write(path, content, seconds):
    """Write a file in place; a slow one in chunks, so that a kill can hit it in the middle."""
    pieces = CHUNKS if seconds else 1
    length = -(-len(content) // pieces)
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(content), length):
            file.write(content[start : start + length])
            time.sleep(seconds / pieces)


def save(options, state):
    text = json.dumps(state | {"padding": ""})
    text = json.dumps(state | {"padding": "x" * (options.size - len(text))})
    content = text.encode()
    if options.marker:
        directory = options.out / f"checkpoint-{state['step']}"
        directory.mkdir(exist_ok=True)
        write(directory / "state.json", content, options.slow_save)
        (directory / options.marker).write_text("complete\n", encoding="utf-8")
    elif options.named:
        write(options.out / f"checkpoint-{state['step']}.json", content, options.slow_save)
    elif options.in_place:
        write(options.out / "checkpoint.json", content, options.slow_save)
    else:
        temporary = options.out / "checkpoint.json.tmp"
        write(temporary, content, options.slow_save)
        temporary.replace(options.out / "checkpoint.json")


def newest(out):
    """Return the checkpoint with the highest step in its name, without a look inside, or None."""
    found = [(int(match[1]), path) for path in out.iterdir() if (match := re.search(r"^checkpoint-(\d+)", path.name))]
    if found:
        return max(found)[1]
    only = out / "checkpoint.json"
    return only if only.exists() else None


def begin(options):
    """Return the state of the checkpoint to resume from, or the untrained state."""
    path = newest(options.out) if options.resume == "auto" else options.resume and Path(options.resume)
    if not path or options.ignore_resume:
        return {"step": 0, "word": options.seed, "weight": 1.0}
    state = json.loads((path / "state.json" if path.is_dir() else path).read_text(encoding="utf-8"))
    print(f"resumed from step {state['step']}", flush=True)
    return {name: state[name] for name in ("step", "word", "weight")}


def train(state, lr):
    """Advance the state by one step and return its loss."""
    state["word"] = (state["word"] * 6364136223846793005 + 1442695040888963407) % 2**64
    noise = state["word"] / 2**64 - 0.5
    state["weight"] -= lr * (state["weight"] + noise)
    state["step"] += 1
    return state["weight"] ** 2


def trap(order):
    """React to a signal as ordered, and return the list that will hold the signals after which to save and exit."""
    name, _, reaction = order.partition(":")
    received = []
    reactions = {
        "save": lambda number, _: received.append(number),
        "exit0": lambda *_: sys.exit(0),
        "ignore": signal.SIG_IGN,
    }
    signal.signal(signal.Signals[f"SIG{name}"], reactions[reaction])
    return received


def wait_at_gate(options, step, received):
    """Wait while the gate of this step is closed. A trapped signal ends the wait."""
    while options.gates and (options.gates / str(step)).exists() and not received:
        time.sleep(0.02)


def disturb(options, step):
    """Raise, hang or exit where an option asks for it after this step."""
    exit_at, _, code = (options.exit_at or "").partition(":")
    if step not in (options.raise_at, options.hang_at, int(exit_at or 0)) or (options.once and options.once.exists()):
        return
    if options.once:
        options.once.touch()
    if step == options.raise_at:
        raise ValueError(f"step {step} has failed")
    while step == options.hang_at:
        time.sleep(3600)
    sys.exit(int(code))


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    received = trap(options.trap) if options.trap else []
    if options.children:
        children = [subprocess.Popen(["sleep", "infinity"]) for _ in range(options.children)]
        print("children:", *(child.pid for child in children), flush=True)
    state = begin(options)
    while state["step"] < options.steps:
        time.sleep(options.seconds_per_step)
        loss = train(state, options.lr)
        print(f"step {state['step'] - options.from_zero}: loss {loss:.6f}", flush=True)
        wait_at_gate(options, state["step"], received)
        if options.write_at:
            options.write_at.write_text(f"{state['step']}\n", encoding="utf-8")
        stopped = bool(received)  # read once: a signal that comes after the save must not end it unsaved
        if stopped or state["step"] % options.every == 0 or state["step"] == options.steps:
            save(options, state)
        disturb(options, state["step"])
        if stopped:
            return
    result = state | {"seed": options.seed, "lr": options.lr}
    (options.out / "result.json").write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
