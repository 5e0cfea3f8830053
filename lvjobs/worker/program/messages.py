"""The files by which the worker of a job on several nodes, and the agents of the other nodes, speak to each other.

They are in the generation's working directory, which all nodes see. Each is replaced as a whole by its one writer. A
client of a network file system may remember for a minute that a name was missing, so a file is opened once its
directory lists it.

    .lvjobs/nodes/orders.json      by the worker: what each node starts, and what it has to do since
    .lvjobs/nodes/1.json           by the agent of node 1: its last answer, and how its processes ended
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lvjobs import files
from lvjobs.worker.program.directory import PRIVATE
from lvjobs.worker.program.end import ProcessEnd
from lvjobs.worker.program.launch import Order

_ORDERS = "orders.json"


@dataclass(frozen=True)
class Orders:
    """The worker's orders to all agents.

    Attributes:
        execution: The execution of the job that they are for.
        generation: The worker's generation. A newer one ends the agents.
        nodes: What each node starts.
        activated: See `lvjobs.worker.program.surroundings`.
        signal: The signal to send to the program, once; empty: none.
        is_over: Whether the program has to end now.
        question: The number of the last question which files are open for writing; 0: none yet.
        beat: A number that changes as long as the worker lives.
    """

    execution: str
    generation: int
    nodes: Sequence[Sequence[Order]]
    activated: Mapping[str, str | None] = field(default_factory=dict)
    signal: str = ""
    is_over: bool = False
    question: int = 0
    beat: int = 0


@dataclass(frozen=True)
class AgentReport:
    """The report of an agent.

    Attributes:
        answered: The number of the last question that it answered.
        open_files: Its answer: the files in the working directory that a process of its node writes.
        is_over: Whether all processes that it started have ended.
        ends: How they ended.
        problem: Why nothing was started; empty otherwise.
    """

    answered: int = 0
    open_files: Sequence[str] = ()
    is_over: bool = False
    ends: Sequence[ProcessEnd] = field(default_factory=list)
    problem: str = ""

    @property
    def has_failed(self) -> bool:
        """Return whether a process failed, or could not be started."""
        return bool(self.problem) or any(end.code and not end.is_ours for end in self.ends)


def directory_of(work: Path) -> Path:
    """Return the directory of the messages of a generation, which has this working directory."""
    return work / PRIVATE / "nodes"


def write_orders(work: Path, orders: Orders) -> None:
    """Replace the orders. Raises OSError where they cannot be written."""
    files.write_atomic(directory_of(work) / _ORDERS, json.dumps(asdict(orders)), durable=False)


def find_orders(work: Path) -> Orders | None:
    """Return the orders; None if there are none yet. Raises OSError where the file system does not answer."""
    return read_orders(work) if _ORDERS in files.names_in(directory_of(work)) else None


def read_orders(work: Path) -> Orders:
    """Return the orders that were found before. Raises OSError where they cannot be read, or are gone."""
    values = json.loads((directory_of(work) / _ORDERS).read_text(encoding="utf-8"))
    nodes = [[Order(**each) for each in node] for node in values.pop("nodes")]
    return Orders(**values, nodes=nodes)


def write_report(work: Path, node_rank: int, report: AgentReport) -> None:
    """Replace an agent's report. Raises OSError where it cannot be written."""
    files.write_atomic(directory_of(work) / f"{node_rank}.json", json.dumps(asdict(report)), durable=False)


def read_report(work: Path, node_rank: int) -> AgentReport | None:
    """Return an agent's report; None if it has made none. Raises OSError where the file system does not answer."""
    name = f"{node_rank}.json"
    if name not in files.names_in(directory_of(work)):
        return None
    values = json.loads((directory_of(work) / name).read_text(encoding="utf-8"))
    return AgentReport(**values | {"ends": [ProcessEnd(**end) for end in values["ends"]]})
