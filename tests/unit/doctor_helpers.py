"""Helpers of the doctor's tests: a study, and a site as it answers."""

from pathlib import Path

from lvjobs.cluster.enquiry import Replies, Reply
from lvjobs.cluster.sites import USER_FORMAT
from lvjobs.doctor.interface import Asked, understand
from lvjobs.study.config import load_study
from lvjobs.study.tables import Resources

CAPTURED = Path(__file__).parent / "captured"

NODES = "low|2|32|64000|gpu:ampere:4(S:0-1)|idle\nlow|1|32|64000|gpu:ampere:4|drained*\nhigh|1|8|8000|(null)|mixed\n"
USER = "lab|lab|||||lv|normal|\nlab|other|||||lv|normal,big|\nlab|lab|||||elsewhere|secret|\n"
QOS = "normal||00:00:00||cluster|12:00:00||8||5|\nbig||||||||gres/gpu=2||\nsecret||||||||||\n"
HELP = "scontrol [<OPTION>] [<COMMAND>]\n  --json[=data_parser] Produce JSON output\n"

assert USER_FORMAT == "DefaultAccount,Account,Partition,MaxSubmitJobs,GrpSubmitJobs,DefaultQOS,Cluster,QOS,MaxWall"


def asked_of(root, profile="lab", *, toml="", **resources):
    """A study in `root` as `lvjobs doctor` looks at it."""
    root.mkdir(exist_ok=True, mode=0o700)
    (root / "study.toml").write_text(f'profile = "{profile}"\n{toml}')
    study = load_study(root)
    own = study.config.resources.model_dump() | {"partition": None if profile == "local" else "low"} | resources
    return Asked(study, True, profile, Resources.model_validate(own), study.config.train)


def replies(config=(), partitions=None, missing=(), **said):
    """A site that answers as the captured one does, but for what is named."""
    text = (CAPTURED / "scontrol_config.txt").read_text()
    for key, value in dict(config).items():
        text = (
            "".join(line for line in text.splitlines(True) if line.split("=")[0].strip() != key) + f"{key} = {value}\n"
        )
    answers = {
        "config": text,
        "partitions": (CAPTURED / "scontrol_partitions.txt").read_text() if partitions is None else partitions,
        "nodes": NODES,
        "user": USER,
        "qos": QOS,
        "queue": "",
        "history": "",
        "help": HELP,
    } | said
    return Replies(missing, {name: Reply(each) if isinstance(each, str) else each for name, each in answers.items()})


def facts_of(asked, **changes):
    """Return the facts of that site for this study."""
    return understand(replies(**changes), asked)


def told(findings, level=None):
    """The findings of a level, in lines with all that is said."""
    return [f"{each.what} | {each.means} | {each.remedy}" for each in findings if level in (None, each.level)]


def levels(findings):
    """The level of each subject; the worst, where it has several."""
    worst = {"fine": 0, "note": 1, "error": 2}
    found = {}
    for each in findings:
        if worst[each.level] >= worst[found.get(each.subject, "fine")]:
            found[each.subject] = each.level
    return found


def heard_nothing(asked, instead):
    """Return the facts of that site without an answer to these questions."""
    return understand(Replies((), {**replies().said, **instead}), asked)
