"""A scene with stages that follow one another, and stages to begin with."""

from dataclasses import replace

from control_scenes import EVERY, Scene

from lvjobs.control.stages.requests import ask
from lvjobs.study.config import StudyConfig
from lvjobs.study.stages import Select, Stage
from lvjobs.study.tables import Resources
from lvjobs.sweep.request import Request

RULE = Select(metric="training_loss")
FIRST = Stage(name="first", grid={"lora_rank": [2, 4, 8]}, select=RULE)
SECOND = Stage(name="second", origin="first", grid={"context_length": [32, 512]}, select=RULE)
LAST = Stage(name="last", origin="second", steps=20)
TABLE = Stage(name="table", evaluate=["first", "last"])
OTHER = Stage(name="other", set={"weight_decay": 0.5})

REQUEST = Request(
    train={"data": "/d.h5", "steps": 12, "checkpoint_every": EVERY},
    resources=Resources(partition="low"),
    profile="lab",
    systems=[7, 8],
)


class Sweep(Scene):
    """A scene with stages."""

    def __init__(self, root, *stages, **more):
        super().__init__(root, **more)
        config = StudyConfig(
            profile="lab", driver=self.study.config.driver, policy=self.study.config.policy, stage=list(stages)
        )
        self.study = replace(self.study, config=config)
        self.bind(**more.get("budget", {}))
        self.losses = self.worker.losses

    def ask(self, *names, request=REQUEST):
        chosen = [stage for stage in self.study.config.stage if stage.name in names or not names]
        with self.session() as session:
            told = ask(session, chosen, request)
            return told + session.make_pass()["did"]

    def do(self, action, *arguments):
        with self.session() as session:
            told = action(session, *arguments)
            return told + session.make_pass()["did"]

    def stage(self, name):
        return next(row for row in self.rows("stages") if row["name"] == name)

    def stands(self, *names):
        return [self.stage(name)["state"] for name in names]

    def cells(self, name):
        names = {row["id"]: row["name"] for row in self.rows("runs")}
        return [names[row["run_id"]] for row in self.rows("cells") if row["stage"] == name]

    def winner(self, name):
        return next((row["name"] for row in self.rows("runs") if row["id"] == self.stage(name)["winner"]), None)

    def jobs_made(self):
        return sorted(job.run_directory.name for job in self.cluster.jobs)
