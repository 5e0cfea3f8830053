"""A training of several ranks of the standard library: they find one another as torch.distributed does, and save in place."""

import argparse
import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

PATIENCE = 120


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--every", type=int, default=5, help="steps between checkpoints")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--resume", type=Path, help="the checkpoint to begin from")
    parser.add_argument("--seconds-per-step", type=float, default=0)
    parser.add_argument("--gates", type=Path, help="wait after a step while a file here has its number")
    parser.add_argument("--raise-at", metavar="STEP", type=int, help="the last rank raises after this step")
    return parser.parse_args()


class Group:
    """All ranks: rank 0 adds up what each one sends, and sends it back."""

    def __init__(self):
        self.rank, self.size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        address = os.environ.get("MASTER_ADDR", "localhost"), int(os.environ.get("MASTER_PORT", "0"))
        self.peers = self._listen(address) if self.rank == 0 else [self._join(address)]
        self.files = [peer.makefile("rw") for peer in self.peers]

    def _listen(self, address):
        if self.size == 1:
            return []
        with socket.create_server(("", address[1]), backlog=self.size) as server:
            server.settimeout(PATIENCE)
            return [server.accept()[0] for _ in range(self.size - 1)]

    def _join(self, address):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(OSError):  # rank 0 does not listen yet
                return socket.create_connection(address)
            time.sleep(0.05)
        raise RuntimeError(f"no rank 0 at {address}")

    def gather(self, value):
        """Return the values of all ranks, by rank."""
        if self.rank:
            self._send(self.files[0], [self.rank, value])
            return self._receive(self.files[0])
        found = {0: value} | dict(self._receive(file) for file in self.files)
        values = [found[rank] for rank in range(self.size)]
        for file in self.files:
            self._send(file, values)
        return values

    def _send(self, file, value):
        try:
            file.write(json.dumps(value) + "\n")
            file.flush()
        except OSError as error:
            raise RuntimeError(f"Connection closed by peer: {error}") from None

    def _receive(self, file):
        try:
            line = file.readline()
        except OSError:
            line = ""
        if not line:
            raise RuntimeError("Connection closed by peer. This is typically caused by a remote worker crashing.")
        return json.loads(line)


def main():
    options = arguments()
    group = Group()
    state = {"step": 0, "words": list(range(group.size)), "weight": 1.0}
    if options.resume:
        state = json.loads(options.resume.read_text(encoding="utf-8"))
        print(f"rank {group.rank} resumed from step {state['step']}", flush=True)
    step, word, weight = state["step"], state["words"][group.rank], state["weight"]
    print(f"rank {group.rank} of {group.size} on {os.environ.get('PLACE', '')} is process {os.getpid()}", flush=True)
    while step < options.steps:
        time.sleep(options.seconds_per_step)
        word = (word * 6364136223846793005 + 1442695040888963407) % 2**64
        words = group.gather(word)
        weight -= 0.1 * (weight + sum(each / 2**64 - 0.5 for each in words) / group.size)
        step += 1
        if step == options.raise_at and group.rank == group.size - 1:
            raise ValueError(f"step {step} has failed")
        if group.rank == 0:
            print(f"step {step}: loss {weight**2:.6f}", flush=True)
            if step % options.every == 0 or step == options.steps:
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / "checkpoint.json").write_text(
                    json.dumps({"step": step, "words": words, "weight": weight}), encoding="utf-8"
                )
        else:
            print(f"step {step}: loss 0", flush=True)
        while options.gates and (options.gates / str(step)).exists():
            time.sleep(0.02)
    if group.rank == 0:
        result = {"step": step, "weight": weight, "ranks": group.size}
        (options.out / "result.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    group.gather(0)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
