"""One page about one GPU: training, resume, start-up, forecasts. At most ten minutes, and no network.

    python benchmarks/gpu.py [--minutes 10] [--from DIR] [--smoke]

Where lvjobs is installed, that is the whole command. Two commands measure a GPU whose machine has no network and no
lvjobs. The first one is typed in this repository, where there is a network and lvjobs is installed:

    python benchmarks/gpu.py --pack gpu-pack

It writes a folder of at most 60 MiB with lvjobs, these benchmarks, Qwen2.5's tokenizer, and wheels of the packages that
a run loads, all but torch, numpy and scipy (--python: the other machine's Python; --cuda: its torch's CUDA). Copy the
folder to the machine with the GPU, whose python3 has PyTorch, and type there:

    python3 gpu-pack/source/benchmarks/gpu.py --from gpu-pack > gpu.md

A package that the machine has already, in a version that lvjobs works with, is used from there. `--minutes 9` leaves a
minute for a scheduler that allows ten.

Measured, with Qwen2.5-0.5B's shape, random weights and LoRA of rank 8, with frozen weights in bf16 and in nf4:

* training at context 512 and 768: real tokens a second, MFU and peak memory, of lvjobs as it comes, packed, and packed
  with the numeric head, against HF Trainer + PEFT, padded and by length;
* resume: whether a run that was killed with SIGKILL and resumed has, bit for bit, the adapter of one left alone;
* the seconds from the start of a worker to its first step;
* what deterministic algorithms cost in tokens a second, for each implementation of attention, and which settings give
  the same bits twice;
* forecasts a second, greedy, against transformers' `generate`.

Each part gets a share of the time that is left and plans its repetitions by its first steps. A part that fails, or for
which no time is left, becomes a line of the page with the error's own words. Progress goes to standard error. Without a
GPU the page says that nothing was measured. `--smoke` takes all of this through a CPU with a small shape, in a minute.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from card.packing import pack, unpack

_BENCHMARKS = Path(__file__).resolve().parent


def main() -> None:
    """Read the command line; pack, or measure and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="that everything may take")
    parser.add_argument("--smoke", action="store_true", help="only see that it works, on a CPU")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="write the folder for a machine without a network")
    parser.add_argument("--from", type=Path, metavar="DIR", dest="source", help="a folder that --pack wrote")
    parser.add_argument("--python", default="3.12", metavar="VERSION", help="with --pack (default 3.12)")
    parser.add_argument(
        "--cuda", nargs="+", default=["128", "130"], metavar="VERSION",
        help="with --pack: bitsandbytes' libraries to keep; 130 is CUDA 13.0 (default 128 130)",
    )  # fmt: skip
    asked = parser.parse_args()
    if asked.pack:
        print(pack(asked.pack, asked.python, asked.cuda))
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        print(measure(Path(scratch), asked.source, asked.minutes, smoke=asked.smoke))


def measure(scratch: Path, source: Path | None, minutes: float, *, smoke: bool) -> str:
    """Measure everything, and return the page.

    Args:
        scratch: A directory for the model (1 GB) and the runs.
        source: A folder that `pack` wrote, if there is one.
        minutes: How long all of it may take.
        smoke: Whether it is a trial on a CPU.
    """
    paths, taken = [_BENCHMARKS, _BENCHMARKS.parent], []
    if source:
        paths.append(scratch / "site")
        taken = unpack(source, scratch / "site")
    _use(paths)
    if smoke:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from card.page import page_of
    from card.session import Session

    files = (source / "tokenizer", source / "data.h5") if source else ()
    tokenizer, data = (path if path.exists() else None for path in files) if files else (None, None)
    session = Session(scratch, minutes, smoke, tokenizer, data)
    session.run()
    return page_of(session, taken)


def _use(paths: list[Path]) -> None:
    """Import from these directories first, here and in the processes that are started."""
    words = [str(path.absolute()) for path in paths]
    os.environ["PYTHONPATH"] = os.pathsep.join([*words, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    sys.path[:0] = words


if __name__ == "__main__":
    main()
