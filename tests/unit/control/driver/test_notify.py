"""Notices: one when a study has ended or something is held, and not one a job; sent again where they did not go out."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from control_builders import NOW, a_run
from control_scenes import Scene, begun, make_haste

from lvjobs.control.driver import notify as module
from lvjobs.control.driver.notify import NoticeRecord, due
from lvjobs.errors import UsageError
from lvjobs.ledger.records import StageRecord
from lvjobs.study.config import load_study
from lvjobs.study.notify import Notify
from lvjobs.study.words import RunState, StageState


def runs(**states):
    return [a_run(id=name, name=name, state=RunState(state), reason="out of luck") for name, state in states.items()]


def a_stage(state, **changes):
    return StageRecord("stage1", 0, {}, state=StageState(state), **changes)


def test_a_study_that_goes_on_is_no_news():
    notice, told = due(NoticeRecord(), runs(one="running", two="completed"), [], NOW)
    assert (notice, told) == (None, NoticeRecord(held=[]))
    notice, _ = due(NoticeRecord(), runs(one="completed"), [a_stage("asked")], NOW)
    assert notice is None
    assert due(NoticeRecord(), [], [], NOW)[0] is None


def test_its_end_is_told_once():
    stage = a_stage("completed", winner="one", because="lowest loss")
    notice, told = due(NoticeRecord(), runs(one="completed", two="cancelled"), [stage], NOW)
    assert notice.subject == "study-ended"
    assert notice.text.startswith("has finished: 1 completed, 1 cancelled; stage1: one (lowest loss)")
    assert due(told, runs(one="completed", two="cancelled"), [stage], NOW + 9)[0] is None


def test_it_may_begin_and_end_again():
    _, told = due(NoticeRecord(), runs(one="completed"), [], NOW)
    _, told = due(told, runs(one="completed", two="running"), [], NOW)
    assert due(told, runs(one="completed", two="completed"), [], NOW)[0].event == "ended"


def test_what_is_held_is_told_of_together_and_not_sooner_than_an_hour_later_again():
    notice, told = due(NoticeRecord(), runs(one="held", two="held", three="running"), [], NOW)
    assert (notice.subject, notice.held) == ("2-held", ("one", "two"))
    assert "one: out of luck; two: out of luck" in notice.text
    more = runs(one="held", two="held", three="running", four="held", five="held")
    notice, told = due(told, more, [], NOW + 60)
    assert notice is None
    notice, told = due(told, more, [], NOW + 3601)
    assert notice.held == ("four", "five")


def test_what_is_held_when_nothing_else_goes_on_is_told_at_once():
    """Nobody makes passes any more, so there may be no later."""
    _, told = due(NoticeRecord(), runs(one="held", two="running"), [], NOW)
    notice, _ = due(told, runs(one="held", two="held"), [], NOW + 60)
    assert notice.held == ("two",)


def test_what_is_held_again_is_news_again():
    _, told = due(NoticeRecord(), runs(one="held"), [], NOW)
    _, told = due(told, runs(one="running"), [], NOW)
    assert due(told, runs(one="held"), [], NOW)[0].held == ("one",)


def test_a_stage_that_is_held_is_told_of():
    notice, _ = due(NoticeRecord(), runs(one="completed"), [a_stage("held", reason="nothing compares")], NOW)
    assert notice.text.startswith("has 1 held: stage stage1: nothing compares")


# -- sent -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hook():
    """A webhook on the loopback: what it got, and what it answers."""
    got, answers = [], [200] * 100

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers.pop(0))
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/secret-path", got, answers
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return Scene(tmp_path)


def told_by(scene, **ways):
    config = scene.study.config.model_copy(update={"notify": Notify(**ways)})
    scene.study = replace(scene.study, config=config)


def summary(scene):
    with scene.session() as session:
        return session.make_pass()


def test_a_webhook_is_told_once_that_the_study_has_ended(scene, hook):
    address, got, _ = hook
    told_by(scene, webhook=address)
    begun(scene)
    assert got == []
    scene.go(120)
    assert scene.state() == "completed"
    (message,) = got
    assert message["text"] == message["content"]
    assert message["text"].startswith(f"lvjobs: study {scene.root.name} has finished: 1 completed")
    assert (message["event"], message["held"]) == ("ended", [])


def test_one_that_does_not_answer_is_asked_again_and_complained_of_once(scene, hook):
    address, got, answers = hook
    told_by(scene, webhook=address)
    begun(scene)
    answers[:0] = [500, 500]
    problems, owed = [], []
    for _ in range(30):
        scene.cluster.advance(5)
        with scene.session() as session:
            problems += session.make_pass()["problems"]
            owed.append(session.owes_notice)
    assert len(got) == 3
    assert sum(owed) == 2
    (problem,) = problems
    assert "127.0.0.1 answered 500" in problem
    assert "secret-path" not in problem


def test_the_address_is_a_secret(scene):
    told_by(scene, webhook="http://127.0.0.1:9/secret-path")
    begun(scene)
    scene.go(120)
    assert "secret-path" not in json.dumps(scene.dump())


def misbehaving(answer):
    """A server's handler that answers a POST so."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def log_message(self, *_):
            pass

    return Handler


def send_away(handler):
    handler.send_response(302)
    handler.send_header("Location", f"gopher://elsewhere{handler.path}")
    handler.end_headers()


def quote_the_path(handler):
    handler.send_response(500, f"no such place: {handler.path}\x1b[2J")
    handler.end_headers()


def talk_nonsense(handler):
    handler.wfile.write(f"nonsense of {handler.path}\r\n\r\n".encode())


@pytest.mark.parametrize("answer", [send_away, quote_the_path, talk_nonsense])
def test_a_servers_answer_ends_no_pass_and_gives_no_address_away(scene, answer, typed):
    server = HTTPServer(("127.0.0.1", 0), misbehaving(answer))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        told_by(scene, webhook=f"http://127.0.0.1:{server.server_port}/services/T0A1B2/x9y8z7?key=k1k2k3")
        begun(scene)
        scene.cluster.advance(120)
        problems = summary(scene)["problems"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    (problem,) = problems
    assert problem.startswith("could not notify you that the study has finished")
    shown = [typed("status", "--no-pass", "--study", scene.root, *more)[1] for more in ([], ["--json"], ["one"])]
    assert typed("report", "--study", scene.root)[0] == 0
    kept = [path.read_bytes().decode(errors="replace") for path in scene.root.rglob("*") if path.is_file()]
    for text in [problem, *shown, *kept]:
        assert not [part for part in ("T0A1B2", "x9y8z7", "k1k2k3", "\x1b[2J") if part in text]


def test_mail_is_a_job_whose_name_says_it(scene, monkeypatch):
    sent = []
    cluster = type("Mailer", (), {"submit": lambda _self, request: sent.append(request)})()
    monkeypatch.setattr(module.Session, "cluster", lambda *_: cluster)
    told_by(scene, mail="someone@example.org")
    with scene.session() as session:
        notice = replace(due(NoticeRecord(), runs(one="completed"), [], NOW)[0])
        assert module._mail(session, "someone@example.org", notice, a_run()) == ""
        assert module._mail(session, "me", notice, a_run()) == ""
        assert "mail needs Slurm" in module._mail(session, "me", notice, a_run(profile="local"))
    assert [request.name.rpartition(".")[2] for request in sent] == ["study-ended"] * 2
    assert [request.resources.get("mail") for request in sent] == ["someone@example.org", None]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('webhook = "file:///etc/passwd"', "https://"),
        ('webhook = "https://chat/a b"', "without blanks"),
        ('webhook = "https://[::1/a"', "https://"),
        ('webhook = "https://chat:port/a"', "https://"),
        ('mail = "a b"', "one address"),
        ("mail = true", "notify.mail"),
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path, line, said):
    (tmp_path / "study.toml").write_text(f"[notify]\n{line}\n")
    with pytest.raises(UsageError, match=said):
        load_study(tmp_path)


@pytest.mark.parametrize("address", ['"chat.example/T0A1B2"', '"https://chat.example/T0A1B2 "', '["https://T0A1B2"]'])
def test_an_address_that_is_refused_is_not_printed(tmp_path, address):
    (tmp_path / "study.toml").write_text(f"[notify]\nwebhook = {address}\n")
    with pytest.raises(UsageError, match=r"notify\.webhook: ") as error:
        load_study(tmp_path)
    assert "T0A1B2" not in str(error.value)
    assert "T0A1B2" not in repr(Notify(webhook="https://chat.example/T0A1B2"))
