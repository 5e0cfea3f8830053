import contextlib
import json
import socket

import pytest

from lvjobs.errors import UsageError
from lvjobs.lab import LabConfig
from lvjobs.lab.layout import LabHost, Layout
from lvjobs.lab.ports import free_base, is_free, loopback_address
from lvjobs.lab.render import render_accounts, render_gres_conf, render_slurm_conf, render_slurmdbd_conf

LAYOUT = Layout.at("/tmp/lab")


def site(**given):
    return LabHost(LabConfig(**given), host="box", address="127.0.1.1", loopback_only=True, port_base=21_000)


def lines(**given):
    return render_slurm_conf(LAYOUT, site(**given), "ada").splitlines()


def partition(name, **given):
    return next(line for line in lines(**given) if line.startswith(f"PartitionName={name} "))


def test_survives_json():
    config = LabConfig(nodes=2, preempt_by="qos", extra=("A=1", "B=2"))
    assert LabConfig.from_dict(json.loads(json.dumps(vars(config)))) == config
    assert LabConfig.from_dict({"nodes": 3, "of_a_later_version": 1}) == LabConfig(nodes=3)


def test_qos_brings_accounting():
    assert LabConfig(preempt_by="qos").accounting
    assert LabConfig(preempt_by="qos") == LabConfig(preempt_by="qos", accounting=True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"nodes": 0}, "nodes"),
        ({"gpus": 17}, "gpus"),
        ({"hold": 5}, "hold"),
        ({"grace": -1}, "grace"),
        ({"preempt_mode": "suspend"}, "preempt_mode"),
        ({"preempt_by": "age"}, "preempt_by"),
        ({"port_base": 80}, "port_base"),
        ({"port_base": 32_767}, "port_base"),
        ({"max_time": "a day"}, "max_time"),
        ({"extra": ("A=1\nB=2",)}, "extra"),
    ],
)
def test_refuses_what_slurm_would_refuse(given, named):
    with pytest.raises(UsageError, match=named):
        LabConfig(**given)


def test_hold_is_a_second_more_than_the_credential():
    assert "AuthInfo=socket=/tmp/lab/run/munge.sock,cred_expire=20" in lines(hold=21)


def test_nodes_have_consecutive_ports_after_the_daemons():
    node = next(line for line in lines(nodes=3, cpus=8, gpus=2) if line.startswith("NodeName="))
    assert node.startswith("NodeName=n[1-3] NodeHostname=box NodeAddr=127.0.1.1 Port=21002-21004 CPUs=8 ")
    assert "Gres=gpu:ampere:2" in node
    assert "SlurmctldHost=box(127.0.1.1)" in lines()
    assert any(" Port=21002 " in line for line in lines(nodes=1))


def test_without_gpus_none_are_named():
    assert not any("gpu" in line.lower() for line in lines(gpus=0, accounting=True))
    assert render_gres_conf(LAYOUT, LabConfig(gpus=0)) == "AutoDetect=off\n"
    assert "File=/tmp/lab/dev/nvidia0\n" in render_gres_conf(LAYOUT, LabConfig(gpus=1))
    assert "File=/tmp/lab/dev/nvidia[0-3]\n" in render_gres_conf(LAYOUT, LabConfig(gpus=4))


@pytest.mark.parametrize("mode", ["requeue", "cancel"])
def test_partition_preemption(mode):
    low, urgent = partition("low", preempt_mode=mode, grace=7), partition("urgent", preempt_mode=mode)
    assert "PreemptType=preempt/partition_prio" in lines()
    assert low.endswith(f"PriorityTier=1 PreemptMode={mode.upper()} GraceTime=7")
    assert "Default=YES" in low
    assert "MaxTime=36:00:00" in low
    assert urgent.endswith("PriorityTier=10 PreemptMode=OFF")
    assert "EnforcePartLimits=ALL" in lines()


def test_qos_preemption_has_its_grace_in_the_qos():
    assert "PreemptType=preempt/qos" in lines(preempt_by="qos")
    assert "GraceTime" not in partition("low", preempt_by="qos")
    config = LabConfig(preempt_by="qos", grace=7, preempt_mode="cancel")
    calls = render_accounts(config, "ada")
    assert ("add", "qos", "low", "set", "priority=1", "gracetime=7", "preemptmode=cancel") in calls
    assert ("add", "qos", "urgent", "set", "priority=100", "preempt=low") in calls
    assert calls[-1] == ("modify", "user", "ada", "set", "defaultaccount=lab")
    assert not any("qos" in call for call in render_accounts(LabConfig(accounting=True), "ada"))


def test_user_signal_is_a_parameter():
    assert "PreemptParameters=send_user_signal" in lines(user_signal=True)
    assert not any(line.startswith("PreemptParameters") for line in lines())


def test_accounting_only_where_asked():
    assert not any(line.startswith("AccountingStorage") for line in lines())
    assert "AccountingStoragePort=21001" in lines(accounting=True)
    assert "AccountingStorageEnforce=associations,limits,qos" in lines(accounting=True)
    assert "DbdPort=21001" in render_slurmdbd_conf(LAYOUT, site(accounting=True), "ada").splitlines()


def test_extra_lines_come_last():
    assert lines(accounting=True, extra=("A=1", "B=2"))[-2:] == ["A=1", "B=2"]


def test_binds_to_the_name_only_where_that_is_a_loopback():
    assert "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" in lines()
    elsewhere = LabHost(LabConfig(), host="box", address="127.0.0.1", loopback_only=False, port_base=21_000)
    assert "NoInAddrAny" not in render_slurm_conf(LAYOUT, elsewhere, "ada")


def test_loopback_address():
    assert loopback_address("127.0.1.1") == "127.0.1.1"
    assert loopback_address("192.0.2.1") is None


def test_ports_are_found_and_refused(tmp_path):
    directory = Layout(tmp_path).directory  # of its own: claims are by name
    with contextlib.ExitStack() as claims:
        base = free_base(directory, 4, claims)
    with socket.socket() as taken, contextlib.ExitStack() as claims:
        taken.bind(("127.0.0.1", base + 2))
        taken.listen()
        assert not is_free(base + 2)
        assert free_base(directory, 4, claims) != base
        with pytest.raises(UsageError, match=f"port {base + 2} is taken"):
            free_base(directory, 4, claims, base)


def test_two_labs_that_start_together_get_different_ports(tmp_path):
    directory = Layout(tmp_path).directory
    with contextlib.ExitStack() as claims, contextlib.ExitStack() as others:
        first = free_base(directory, 4, claims)
        second = free_base(directory, 4, others)
        assert abs(first - second) >= 4
        claims.close()
        assert free_base(directory, 4, others) == first


def test_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("LVJOBS_LAB", str(tmp_path / "mine"))
    assert Layout.at().directory == (tmp_path / "mine").resolve()
    assert Layout.at("/tmp/other").directory.name == "other"
    monkeypatch.delenv("LVJOBS_LAB")
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp/cache")
    assert str(Layout.at().directory).endswith("/cache/lvjobs/lab")
    for unusable in ("/tmp/" + "x" * 100, "/tmp/a b", "/tmp/n[1]", "/"):
        with pytest.raises(UsageError, match="LVJOBS_LAB"):
            Layout.at(unusable)


def test_the_record_of_a_lab(tmp_path):
    layout = Layout(tmp_path)
    assert layout.load() is None
    layout.save(site(nodes=2, extra=("A=1",)))
    assert layout.load() == site(nodes=2, extra=("A=1",))
    layout.record.write_text("{")
    with pytest.raises(UsageError, match="--purge"):
        layout.load()
