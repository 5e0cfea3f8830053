"""The doctor's findings about Slurm's answers: captured answers, changed one at a time."""

import pytest
from doctor_helpers import CAPTURED, asked_of, facts_of, heard_nothing, levels, told

from lvjobs.cluster.enquiry import Reply
from lvjobs.cluster.nodes import parse_groups
from lvjobs.cluster.sites import parse_associations
from lvjobs.doctor import permission, room, scheduler
from lvjobs.doctor.examine import check_site
from lvjobs.doctor.permission import barriers

SILENT = Reply(problem="scontrol did not answer within 6 s", is_silent=True)
PARTITIONS = (CAPTURED / "scontrol_partitions.txt").read_text()


@pytest.fixture
def ask(tmp_path):
    def make(profile="lab", **changes):
        return asked_of(tmp_path / "study", profile, **changes)

    return make


def test_a_site_where_all_is_well(ask):
    asked = ask()
    found = [*check_site(facts_of(asked), asked)]
    assert set(levels(found).values()) == {"fine"}
    subjects = ("Slurm", "accounting", "account", "partition", "QOS", "size", "time limit", "queue", "preemption")
    assert set(subjects) <= set(levels(found))
    assert "cluster lv answers: Slurm 24.11.5" in told(found)[0]


def test_slurm_that_is_not_here(ask):
    found = [*scheduler.check_slurm(facts_of(ask(), missing=("sbatch", "scontrol"), config={}))]
    assert levels(found) == {"Slurm": "error"}
    assert "sbatch, scontrol: not on PATH" in told(found)[0]


def test_a_controller_that_is_silent_is_one_error_and_nothing_else_is_claimed(ask):
    asked = ask(account="nobody", partition="nope")
    silence = dict.fromkeys(("config", "partitions", "nodes", "queue"), SILENT)
    found = [*check_site(heard_nothing(asked, silence), asked)]
    assert levels(found) == {"Slurm": "error"}
    assert "slurmctld does not answer: scontrol did not answer within 6 s" in told(found)[0]


def test_programs_without_a_cluster(ask):
    nowhere = Reply(problem="fetch_config: DNS SRV lookup failed; Could not establish a configuration source")
    (found,) = scheduler.check_slurm(heard_nothing(ask(), {"config": nowhere}))
    assert found.what == "its programs find no cluster: Could not establish a configuration source"
    assert "SLURM_CONF" in found.remedy


def test_a_slurm_that_is_too_old_to_tell_a_job_of_itself(ask):
    found = [*scheduler.check_slurm(facts_of(ask(), help="scontrol [<OPTION>] [<COMMAND>]"))]
    assert levels(found) == {"Slurm": "error"}
    assert "no --json" in told(found, "error")[0]


def test_accounting_that_is_not_there_and_accounting_that_is_down(ask):
    none = facts_of(ask(), config={"AccountingStorageType": "accounting_storage/none"})
    (found,) = scheduler.check_accounting(none)
    assert (found.level, "known for 300 s" in found.means) == ("note", True)
    assert levels(permission.check_account(none, ask())) == {"account": "fine"}
    (found,) = scheduler.check_accounting(facts_of(ask(), history=Reply(problem="Connection refused")))
    assert (found.level, "Connection refused" in found.what) == ("note", True)


def test_an_account_of_somebody_else_is_an_error_that_names_mine(ask):
    asked = ask(account="nobody")
    (found,) = permission.check_account(facts_of(asked), asked)
    assert found.level == "error"
    assert found.what == "'nobody' is not yours on cluster lv; yours: lab, other"
    assert found.remedy.startswith('account = "lab" under [resources]')
    loose = facts_of(asked, config={"AccountingStorageEnforce": "none"})
    assert levels(permission.check_account(loose, asked)) == {"account": "note"}


def test_no_account_at_all(ask):
    (found,) = permission.check_account(facts_of(ask(), user=""), ask())
    assert (found.level, "ask the site" in found.remedy) == ("error", True)
    (found,) = permission.check_account(facts_of(ask(), user=Reply(problem="Access denied")), ask())
    assert (found.level, "Access denied" in found.what) == ("note", True)


def test_a_profile_that_wants_an_account_named(ask):
    asked = ask("csd3-ampere")
    (found,) = permission.check_account(facts_of(asked), asked)
    assert (found.level, found.remedy.startswith('account = "lab"')) == ("note", True)


def test_accounts_of_other_clusters_of_the_same_slurmdbd_are_no_accounts_here(ask):
    assert {each.qos for each in facts_of(ask()).associations} == {("normal",), ("normal", "big")}


def test_a_partition_that_is_not_there(ask):
    asked = ask(partition="lwo")
    (found,) = permission.check_partition(facts_of(asked), asked)
    assert found.level == "error"
    assert found.what == "there is no 'lwo' on cluster lv; there are high, low"
    assert found.remedy.startswith('partition = "low"'), "the one with as many GPUs"


def test_a_partition_is_described(ask):
    (found,) = permission.check_partition(facts_of(ask()), ask())
    assert found.what == "low: 3 nodes (2 idle, 1 out of service), 4 GPUs each, at most 1-12:00:00 a job"


@pytest.mark.parametrize(
    ("field", "level", "words"),
    [
        ("State=DRAIN", "note", "low is DRAIN"),
        ("AllowGroups=nobody-is-in-it", "error", "you are in none of them"),
        ("AllowAccounts=rich", "note", "the accounts rich only, and those below them"),
        ("DenyAccounts=lab", "error", "does not accept lab (DenyAccounts)"),
        ("AllowQos=gold", "error", "only the QOS gold"),
        ("RootOnly=YES", "error", "root only"),
    ],
)
def test_a_partition_that_does_not_take_me(ask, field, level, words):
    key = field.partition("=")[0]
    lines = [" ".join(w for w in line.split() if not w.startswith(f"{key}=")) for line in PARTITIONS.splitlines()]
    text = "\n".join([f"{lines[0]} {field}", *lines[1:]])
    asked = ask(qos="normal")
    (found,) = permission.check_partition(facts_of(asked, partitions=text), asked)
    assert (found.level, words in found.what) == (level, True)
    assert found.remedy.startswith('partition = "high"')


def test_of_several_partitions_one_may_be_closed(ask):
    asked = ask(partition="low,high", qos="normal")
    closed = PARTITIONS.replace("AllowQos=ALL", "AllowQos=gold", 1)
    found = [*permission.check_partition(facts_of(asked, partitions=closed), asked)]
    assert [each.level for each in found] == ["note", "fine"]
    closed = PARTITIONS.replace("AllowQos=ALL", "AllowQos=gold")
    found = [*permission.check_partition(facts_of(asked, partitions=closed), asked)]
    assert [each.level for each in found] == ["error", "error"]


def test_a_partition_that_says_nothing_against_anybody():
    assert [*barriers({"PartitionName": "p", "AllowAccounts": "ALL", "AllowQos": "N/A"}, ["a"], ["q"], ["g"])] == []


def test_a_qos_that_is_not_there_or_not_mine(ask):
    asked = ask(qos="gold")
    (found,) = permission.check_qos(facts_of(asked), asked)
    assert (found.level, found.what) == ("error", "there is no 'gold'; yours: normal")
    asked = ask(qos="big")
    (found,) = permission.check_qos(facts_of(asked), asked)
    assert (found.level, found.what) == ("error", "'big' is not yours; yours: normal")
    asked = ask(qos="big", account="other")
    assert levels(permission.check_qos(facts_of(asked), asked)) == {"QOS": "fine"}
    asked = ask(qos="gold,normal")
    assert [each.level for each in permission.check_qos(facts_of(asked), asked)] == ["note", "fine"]


def test_more_than_any_node_has(ask):
    asked = ask(gpus=8)
    (found,) = room.check_size(facts_of(asked), asked)
    assert (found.level, "no node of low has that: 4 GPUs, 32 cores, 64000 MiB" in found.what) == ("error", True)
    asked = ask(gpus=1)
    (found,) = room.check_size(facts_of(asked), asked)
    assert found.what == "a job requests 1 GPU, 1 core, 2000 MiB: 2 nodes have that"
    away = "low|2|32|64000|gpu:4|down*\n"
    (found,) = room.check_size(facts_of(asked, nodes=away), asked)
    assert (found.level, "out of service (down*)" in found.what) == ("note", True)
    asked = ask(gpus=4, qos="big", account="other")
    (_, found) = room.check_size(facts_of(asked), asked)
    assert (found.level, "the QOS lets a user have 2" in found.what) == ("error", True)


def test_a_time_limit_that_the_site_does_not_allow(ask):
    for limit, words in (("40h", "partition low allows 1-12:00:00"), ("13h", "the QOS allows 12:00:00")):
        asked = ask(time_limit=limit, qos="normal")
        (found,) = room.check_time(facts_of(asked), asked)
        assert (found.level, words in found.what) == ("error", True)
    assert 'time_limit = "12:00:00"' in found.remedy
    asked = ask(time_limit="13h")
    short = "lab|lab|||||lv|normal|06:00:00\n"
    (found,) = room.check_time(facts_of(asked, user=short, qos=""), asked)
    assert (found.level, "the account allows 6:00:00" in found.what) == ("error", True)
    asked = ask(time_limit="auto")
    (found,) = room.check_time(facts_of(asked), asked)
    assert (found.level, "at most 1:00:00" in found.what) == ("fine", True)


def test_room_in_the_queue(ask):
    (found,) = room.check_queue(facts_of(ask(qos="normal")))
    assert (found.level, "you have 0 jobs in the queue, and there is room for 5 more" in found.what) == ("fine", True)
    full = QUEUE_ROW * 8
    (found,) = room.check_queue(facts_of(ask(qos="normal"), queue=full))
    assert (found.level, "you have 8 jobs in the queue, and there is no room" in found.what) == ("note", True)
    (found,) = room.check_queue(facts_of(ask(), queue=Reply(problem="Socket timed out")))
    assert found.level == "note"


QUEUE_ROW = (
    f"{'7':<40}{'RUNNING':<24}{'None':<100}{'0':<12}{'N/A':<24}{'N/A':<24}{'0':<12}{'low':<64}{'n1':<100}"
    f"{'normal':<64}{'lab':<64}{'x.000000000001':<256}\n"
)


def test_what_sbatch_says_to_such_a_job(ask):
    asked = ask()
    refused = Reply(problem="allocation failure: No GPUs, no job")
    found = [*check_site(facts_of(asked, test=refused), asked)]
    assert levels(found)["sbatch"] == "error"
    assert "No GPUs, no job" in told(found, "error")[0]
    asked = ask(partition="lwo")
    found = [*check_site(facts_of(asked, test=refused, driver=refused), asked)]
    assert [each.subject for each in found if each.level == "error"] == ["partition"], "told once"
    assert "sbatch" not in levels(found)
    (found,) = room.check_submission(facts_of(ask(), test="1770000000.0"), ask())
    assert "it accepts such a job" in found.what


@pytest.mark.parametrize(
    ("mode", "grace", "level", "words"),
    [
        ("REQUEUE", 4, "fine", ("requeues", "4 s to finish")),
        ("REQUEUE", 0, "fine", ("requeues", "killed at once", "at most 250")),
        ("CANCEL", 4, "fine", ("cancels", "requeues itself")),
        ("CANCEL", 0, "note", ("cancels", "only an update resubmits")),
        ("GANG,SUSPEND", 0, "note", ("suspends", "not tested")),
        ("OFF", 0, "fine", ("not preempted",)),
    ],
)
def test_what_becomes_of_a_preempted_job(ask, mode, grace, level, words):
    text = PARTITIONS.replace("GraceTime=4", f"GraceTime={grace}").replace("PreemptMode=REQUEUE", f"PreemptMode={mode}")
    found = [*scheduler.check_preemption(facts_of(ask(), partitions=text), ask())]
    assert [each.level for each in found] == [level]
    assert [word for word in words if word not in told(found)[0]] == []


def test_preemption_by_qos_and_none(ask):
    asked = ask(qos="normal")
    text = "normal||00:00:30||cancel|||||||\n"
    (found,) = scheduler.check_preemption(facts_of(asked, config={"PreemptType": "preempt/qos"}, qos=text), asked)
    assert "PreemptMode=CANCEL, GraceTime=30" in found.what
    (found,) = scheduler.check_preemption(facts_of(asked, config={"PreemptType": "preempt/none"}), asked)
    assert "not preempted here" in found.what


def test_requeue(ask):
    (found,) = scheduler.check_requeue(facts_of(ask()))
    assert "Slurm holds it for 121 s" in found.what
    (found,) = scheduler.check_requeue(facts_of(ask(), config={"JobRequeue": "0"}))
    assert "JobRequeue=0" in found.what


def test_whether_jobs_may_submit_jobs(ask):
    asked = ask()
    (found,) = scheduler.check_driver(facts_of(asked), asked)
    assert (found.level, found.what) == ("fine", "a small job updates the study, on low")
    text = PARTITIONS.replace("AllocNodes=ALL", "AllocNodes=login1")
    (found,) = scheduler.check_driver(facts_of(asked, partitions=text), asked)
    assert (found.level, "from login1 only" in found.what) == ("note", True)
    assert found.remedy == f"type: lvjobs driver install --study {asked.study.root}"
    scron = facts_of(asked, partitions=text, config={"ScronParameters": "enable,explicit_scancel"})
    (found,) = scheduler.check_driver(scron, asked)
    assert found.remedy == f"type: lvjobs driver install --scrontab --study {asked.study.root}"
    (found,) = scheduler.check_driver(facts_of(asked, driver=Reply(problem="no GPU, no job")), asked)
    assert (found.level, "[driver] in study.toml" in found.remedy) == ("note", True)
    off = ask(toml="[driver]\njob = false\n")
    (found,) = scheduler.check_driver(facts_of(off), off)
    assert (found.level, "job = false" in found.what) == ("note", True)


def test_nodes_and_rights_as_slurm_prints_them():
    (group,) = parse_groups("ampere|80|128|1000000+|gpu:a100:4(S:0-7),nvme:1|mixed-\nno such line\n")
    assert (group.gpus, group.cpus, group.memory_mb, group.is_out) == (4, 128, 1_000_000, False)
    (right,) = parse_associations("|lab|low|||normal|lv|normal,big|1-00:00:00\nshort|row\n", "lv")
    assert (right.account, right.partition, right.qos, right.minutes) == ("lab", "low", ("normal", "big"), 1440)
    assert not right.is_default
