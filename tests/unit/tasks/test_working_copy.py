"""The files that a copy of a program's working directory gets: git's list, links, limits, and what stays out."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lvjobs.errors import UsageError
from lvjobs.processes import identify
from lvjobs.tasks import git as git_questions
from lvjobs.tasks.copy_limits import Limits
from lvjobs.tasks.working_copy import find_files, provenance


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    """Git's settings of this user, which are none of the machine's."""
    path = tmp_path / "gitconfig"
    path.write_text('[user]\nname = a\nemail = a@b\n[protocol "file"]\nallow = always\n[init]\ndefaultBranch = main\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(directory, *arguments):
    return subprocess.run(["git", *arguments], cwd=directory, check=True, capture_output=True, text=True).stdout


def write(directory, *names, text="x"):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commit(directory, *names):
    write(directory, *names)
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", "one")


@pytest.fixture
def plain(tmp_path):
    """A directory that is in no repository."""
    (tmp_path / "plain").mkdir()
    return tmp_path / "plain"


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    commit(root, "train.py", "deep/model.py")
    return root


def names(directory, linked=(), **limits):
    found = find_files(directory, linked, Limits(**limits))
    assert found.problem == ""
    assert all(path == directory / name and path.is_file() for name, path in found.files.items())
    return set(found.files)


def left_out(directory):
    return list(find_files(directory).left_out)


PLAIN = {"train.py", "deep/model.py"}


# -- what git lists -------------------------------------------------------------------------------------------------


def test_tracked_and_untracked_files_are_copied_and_ignored_and_deleted_ones_are_not(repository):
    commit(repository, "gone.py", "gone/too.py")
    (repository / "gone.py").unlink()
    shutil.rmtree(repository / "gone")
    write(repository, "new.py", "big/weights.bin", "deep/note.tmp", ".env")
    write(repository, ".gitignore", text="big/\n*.tmp\n")
    assert names(repository) == PLAIN | {"new.py", ".env", ".gitignore"}
    assert left_out(repository) == []


def test_a_directory_below_the_root_of_the_repository_is_copied_alone(repository):
    write(repository, ".gitignore", text="*.tmp\n")
    write(repository, "deep/a.tmp", "deep/er/b.py", "other/c.py")
    assert names(repository / "deep") == {"model.py", "er/b.py"}


def test_every_name_that_a_file_may_have_is_copied(repository):
    odd = {
        "a blank.py",
        "two\nlines.py",
        "größe/日本.py",
        "-rf",
        "--help/x",
        '"quoted".py',
        "tab\t.py",
        "*?[a].py",
        "b\\c",
    }
    write(repository, *odd)
    (repository / os.fsdecode(b"latin-\xe4.py")).write_text("")
    assert names(repository) == PLAIN | odd | {os.fsdecode(b"latin-\xe4.py")}
    git(repository, "add", "-A")
    assert names(repository) == PLAIN | odd | {os.fsdecode(b"latin-\xe4.py")}


def test_a_tracked_file_whose_place_a_directory_took_is_not_copied(repository):
    (repository / "train.py").unlink()
    write(repository, "train.py/new.py", ".gitignore")
    assert names(repository) == {"train.py/new.py", "deep/model.py", ".gitignore"}


def test_a_tracked_directory_whose_place_a_file_took_is_not_copied(repository):
    shutil.rmtree(repository / "deep")
    write(repository, "deep")
    assert names(repository) == {"train.py", "deep"}
    assert left_out(repository) == []


@pytest.fixture
def with_submodule(repository, tmp_path):
    """A repository with a submodule; the submodule's own working copy is `repository/lib`."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    commit(other, "tool.py", ".gitignore")
    git(repository, "submodule", "--quiet", "add", str(other), "lib")
    git(repository, "commit", "-q", "-m", "two")
    return repository


def test_files_of_submodules_and_of_repositories_inside_are_copied(with_submodule):
    write(with_submodule / "lib", ".gitignore", text="*.bin\n")
    write(with_submodule / "lib", "new.py", "large.bin")
    write(with_submodule, "clone/inner.py")
    git(with_submodule / "clone", "init", "-q")
    expected = PLAIN | {".gitmodules", "lib/tool.py", "lib/.gitignore", "lib/new.py", "clone/inner.py"}
    assert names(with_submodule) == expected


def test_a_submodule_that_is_not_checked_out_is_passed_over(with_submodule):
    git(with_submodule, "submodule", "--quiet", "deinit", "-f", "lib")
    assert names(with_submodule) == PLAIN | {".gitmodules"}


def test_a_directory_that_the_repository_around_it_ignores_is_copied_whole(repository):
    write(repository, ".gitignore", text="scratch/\n")
    write(repository, "scratch/train.py", "scratch/node_modules/x.js")
    assert names(repository / "scratch") == {"train.py"}
    assert provenance(repository / "scratch") == {}


def test_variables_that_name_another_repository_do_not_count(repository, plain, monkeypatch):
    git(plain, "init", "-q")
    write(plain, "other.py")
    for name, value in {"GIT_DIR": ".git", "GIT_WORK_TREE": "", "GIT_INDEX_FILE": "index"}.items():
        monkeypatch.setenv(name, str(plain / value))
    assert names(repository) == PLAIN


# -- without git ----------------------------------------------------------------------------------------------------


def test_outside_a_repository_all_but_caches_is_copied(plain):
    write(plain, "train.py", "deep/model.py", ".env", ".gitignore", text="deep/\n")
    write(plain, "__pycache__/a.pyc", "old.pyc", ".mypy_cache/b", ".venv/c", "deep/node_modules/d", ".hg/e", ".svn/f")
    write(plain, "env/pyvenv.cfg", "env/lib/site.py", "venv/g", ".ruff_cache/h", ".pytest_cache/i")
    assert names(plain) == PLAIN | {".env", ".gitignore"}
    assert left_out(plain) == []


def test_without_git_on_path_a_repository_is_copied_whole_and_the_reason_is_reported(repository, tmp_path, monkeypatch):
    write(repository, ".gitignore", text="*.tmp\n")
    write(repository, "a.tmp")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_files(repository)
    assert set(found.files) == PLAIN | {".gitignore", "a.tmp"}
    expected = f"git is not on PATH; so files in {repository} that .gitignore names are copied too"
    assert found.problem == expected
    assert provenance(repository) == {}


def test_a_repository_of_another_owner_is_copied_whole_and_the_reason_is_reported(repository, monkeypatch):
    monkeypatch.setattr(git_questions, "_KEPT", (*git_questions._KEPT, "GIT_TEST_"))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = find_files(repository)
    assert set(found.files) == PLAIN
    assert found.problem.startswith("git: fatal: detected dubious ownership")
    assert "\n" not in found.problem
    assert provenance(repository) == {}


def test_a_broken_repository_is_copied_whole(repository):
    (repository / ".git" / "index").write_bytes(b"no index")
    found = find_files(repository)
    assert set(found.files) == PLAIN
    assert found.problem.startswith("git: ")


def test_a_git_that_does_not_answer_is_ended_with_all_that_it_started(repository, tmp_path, monkeypatch):
    started = tmp_path / "started"
    script = f'#!/bin/sh\nsleep 1000 &\necho $! > "{started}.new"\nmv "{started}.new" "{started}"\nwait\n'
    write(tmp_path, "bin/git", text=script)
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    class Late(subprocess.Popen):
        """Its time is over once the program has started another."""

        def wait(self, timeout=None):
            while timeout is not None and not started.exists():
                time.sleep(0.01)
            if timeout is not None:
                raise subprocess.TimeoutExpired(self.args, timeout)
            return super().wait()

    monkeypatch.setattr(git_questions.subprocess, "Popen", Late)
    found = find_files(repository)
    assert set(found.files) == PLAIN
    assert found.problem.startswith("git did not answer within 30 s; ")
    while identify(int(started.read_text())) is not None:
        time.sleep(0.01)  # this test's own time limit ends it


@pytest.fixture
def unprivileged():
    """An empty directory, and a user to whom permissions apply."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        ids = os.getresuid()
        try:
            if os.geteuid() == 0:
                os.chown(root, 65534, -1)
                os.setresuid(65534, 65534, 0)
            if not os.access(root, os.W_OK):
                pytest.skip("the directory for temporary files is for root alone")
            yield root
        finally:
            os.setresuid(*ids)
            for path in root.iterdir():
                path.chmod(0o700)


def test_what_may_not_be_read_is_named(unprivileged):
    write(unprivileged, "train.py", "closed/a.py", "listed/b.py", "secret.py")
    (unprivileged / "link.py").symlink_to(Path("closed", "a.py"))
    for name, mode in {"closed": 0, "listed": 0o400, "secret.py": 0}.items():
        (unprivileged / name).chmod(mode)
    assert names(unprivileged) == {"train.py"}
    assert left_out(unprivileged) == [
        "closed (Permission denied)",
        "link.py (link: Permission denied)",
        "listed/b.py (Permission denied)",
        "secret.py (not readable)",
    ]


def test_what_git_tracks_and_may_not_be_read_is_named(unprivileged):
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    write(unprivileged, "train.py", "closed/a.py", "listed/b.py")
    subprocess.run(["git", "init", "-q"], cwd=unprivileged, check=True, env={"PATH": os.environ["PATH"]})
    subprocess.run(["git", "add", "-A"], cwd=unprivileged, check=True, env={"PATH": os.environ["PATH"]})
    for name, mode in {"closed": 0, "listed": 0o400}.items():
        (unprivileged / name).chmod(mode)
    found = find_files(unprivileged)
    assert set(found.files) == {"train.py"}
    assert found.left_out == ["closed/a.py (Permission denied)", "listed/b.py (Permission denied)"]


def test_a_directory_that_is_not_there_is_refused(plain):
    with pytest.raises(UsageError, match="is not a directory"):
        find_files(plain / "nowhere")


# -- a hostile repository -------------------------------------------------------------------------------------------


def test_no_program_that_a_repository_names_is_started(repository, tmp_path):
    ran = tmp_path / "ran"
    write(repository, ".gitattributes", text="*.py filter=a.b\n*.txt filter=c\n")
    commit(repository, "a.txt")
    program = f"touch {ran}; cat"
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "filter.a.b.clean",
        "filter.a.b.smudge",
        "filter.c.process",
    ):
        git(repository, "config", key, program)
    git(repository, "config", "filter.a.b.required", "true")
    for hook in ("post-index-change", "fsmonitor-watchman"):
        write(repository, f".git/hooks/{hook}", text=f"#!/bin/sh\n{program}\n")
        (repository / ".git" / "hooks" / hook).chmod(0o755)
    write(repository, "train.py", text="y")  # the same size: git has to read it
    os.utime(repository / "a.txt", (1, 1))
    assert names(repository) == PLAIN | {".gitattributes", "a.txt"}
    assert provenance(repository)["dirty"] is True
    assert not ran.exists()
    subprocess.run(["git", "status"], cwd=repository, check=False, capture_output=True)
    assert ran.exists()  # without the care, it is


def test_a_link_in_place_of_a_directory_does_not_lead_tracked_paths_out(repository, tmp_path):
    write(tmp_path, "outside/model.py")
    shutil.rmtree(repository / "deep")
    (repository / "deep").symlink_to(tmp_path / "outside")
    assert names(repository) == {"train.py"}
    assert left_out(repository) == ["deep (link out of the project)"]


def test_paths_of_an_index_that_leave_the_directory_are_not_copied(repository, monkeypatch):
    listed = ["train.py", "../outside.py", "/etc/passwd", "deep/../../outside.py", ".git/config"]
    write(repository.parent, "outside.py")
    monkeypatch.setattr(git_questions.Git, "list_files", lambda *_arguments: listed)
    assert names(repository) == {"train.py"}
    assert len(left_out(repository)) == 3


# -- links and special files ----------------------------------------------------------------------------------------


@pytest.fixture(params=["plain", "repository"])
def either(request):
    """A directory with PLAIN, in a repository and in none."""
    root = request.getfixturevalue(request.param)
    write(root, *PLAIN)
    return root


def test_links_that_stay_inside_are_followed(either):
    (either / "link.py").symlink_to("train.py")
    (either / "absolute").symlink_to(either / "deep")
    assert names(either) == PLAIN | {"link.py", "absolute/model.py"}
    assert left_out(either) == []


def test_a_link_into_the_rest_of_the_repository_is_followed_without_ignored_files(repository):
    write(repository, ".gitignore", text="*.tmp\n")
    write(repository, "shared/tool.py", "shared/a.tmp")
    (repository / "deep" / "shared").symlink_to(Path("..", "shared"))
    assert names(repository / "deep") == {"model.py", "shared/tool.py"}
    (repository / "deep" / "config").symlink_to(Path("..", ".git", "config"))
    assert left_out(repository / "deep") == ["config (link into .git)"]


def test_links_that_lead_out_or_nowhere_are_left_out_and_named(either, tmp_path):
    write(tmp_path, "data/large.bin")
    (either / "data").symlink_to(tmp_path / "data")
    (either / ".#train.py").symlink_to("someone@host.4242:1700000000")
    (either / "bad\x1b[2J\n").symlink_to("nowhere")
    assert names(either) == PLAIN
    expected = [".#train.py (dangling link)", "bad\\x1b[2J\\n (dangling link)", "data (link out of the project)"]
    assert left_out(either) == expected


def test_links_that_lead_in_a_circle_end(either):
    (either / "deep" / "itself").symlink_to(".")
    (either / "deep" / "top").symlink_to("..")
    (either / "two").mkdir()
    (either / "two" / "one").symlink_to(Path("..", "deep"))
    (either / "deep" / "two").symlink_to(Path("..", "two"))
    (either / "self.py").symlink_to("self.py")
    assert names(either) == PLAIN | {"two/one/model.py"}
    circle = "link to a directory that it is in"
    assert left_out(either) == [
        f"deep/itself ({circle})",
        f"deep/top ({circle})",
        f"deep/two/one ({circle})",
        "self.py (link: Too many levels of symbolic links)",
        f"two/one/itself ({circle})",
        f"two/one/top ({circle})",
        f"two/one/two ({circle})",
    ]


def test_links_that_multiply_end(plain, monkeypatch):
    monkeypatch.setattr(Limits, "most_paths", 500)
    write(plain, "00/a.py")
    for number in range(1, 30):  # the last one leads to the first one by 2**29 ways
        (plain / f"{number:02}").mkdir()
        for way in "ab":
            (plain / f"{number:02}" / way).symlink_to(Path("..", f"{number - 1:02}"))
    with pytest.raises(UsageError, match="and more paths than these"):
        find_files(plain)


def test_a_fifo_is_left_out_and_not_waited_for(either):
    os.mkfifo(either / "fifo")
    assert names(either) == PLAIN
    (either / "train.py").unlink()
    os.mkfifo(either / "train.py")
    assert names(either) == {"deep/model.py"}
    assert "train.py (FIFO)" in left_out(either)


# -- what a study keeps, and what is linked -------------------------------------------------------------------------


def test_what_a_study_keeps_is_not_copied(either):
    write(either, "study.toml", "runs.db", "runs.db-journal", "runs.db.20260101-000000.bak")
    write(
        either, "checkpoints/a/1.bin", "logs/a/1.out", ".lvjobs/ledger.log", "src/logs/kept.py", "deep/checkpoints/kept"
    )
    write(either, "old/runs.db", "old/logs/a", "old/checkpoints/b", "old/kept.py", "src/__pycache__/a.py")
    expected = PLAIN | {"study.toml", "src/logs/kept.py", "deep/checkpoints/kept", "old/kept.py"}
    assert names(either) == expected
    (either / "deep" / "best").symlink_to(Path("..", "checkpoints", "a"))
    assert names(either) == expected
    assert left_out(either) == ["deep/best (link into what a study keeps)"]


def test_directories_with_such_names_are_copied_where_no_study_is(either):
    write(either, "checkpoints/a", "logs/b", ".lvjobs/c")
    assert names(either) == PLAIN | {"checkpoints/a", "logs/b", ".lvjobs/c"}


def test_what_is_linked_is_not_copied(either, tmp_path):
    write(either, "data/a.bin", "assets/big/b.bin", "assets/small.txt", "database.py", "w*[x]\\ /c", "wax /d")
    write(tmp_path, "outside/e")
    (either / "corpus").symlink_to(tmp_path / "outside")
    linked = ["./data/", "assets/big", "corpus", "deep/../train.py", "w*[x]\\ "]
    found = find_files(either, linked)
    assert set(found.files) == {"deep/model.py", "assets/small.txt", "database.py", "wax /d"}
    assert found.left_out == []
    assert found.linked == ["assets/big", "corpus", "data", "train.py", "w*[x]\\ "]


def test_git_does_not_search_what_is_linked_nor_what_a_study_keeps(repository):
    write(repository, "deep/data/a", "deep/study.toml", "deep/logs/b", "deep/c")
    found = git_questions.Git().list_files(repository / "deep", ["data", "logs"])
    assert set(found) == {"c", "model.py", "study.toml"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/data", "absolute"),
        ("../data", "outside"),
        ("deep/../../data", "outside"),
        ("nowhere\x1b\n", r'"nowhere\\x1b\\n" does not exist'),
        ("zero\0", "does not exist"),
        ("", "the whole"),
        ("deep/..", "the whole"),
    ],
)
def test_a_name_that_cannot_be_linked_is_refused(plain, name, reason):
    write(plain, "deep/a", "../data/b")
    with pytest.raises(UsageError, match=reason) as refused:
        find_files(plain, [name])
    assert str(refused.value).isprintable()


# -- limits ---------------------------------------------------------------------------------------------------------


def refusal(directory, linked=(), **limits):
    with pytest.raises(UsageError) as refused:
        find_files(directory, linked, Limits(**limits))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def sparse(directory, **sizes):
    for name, size in sizes.items():
        write(directory, name)
        os.truncate(directory / name, size)


def test_files_up_to_the_limit_are_copied_and_one_more_is_refused(either):
    write(either, *(f"data/train/{number}" for number in range(8)), "data/readme", "b/1", "b/2")
    assert len(names(either, files=13)) == 13
    said = refusal(either, files=12)
    assert "it has 13 files, and the limit is 12 files; most of them: data/train/ (8 files), b/ (2 files), " in said
    assert "./ (1 file)" in said
    assert said.endswith("or set `snapshot = { files = 13 }` under [train]")
    assert (".gitignore" in said) == (either / ".git").exists()


def test_a_directory_is_named_only_where_its_files_are_in_several_directories(plain):
    write(plain, *(f"data/{part}/{number}" for part in "ab" for number in range(4)))
    assert "most of them: data/ (8 files)" in refusal(plain, files=7)


def test_the_five_directories_with_the_most_files_are_named(plain):
    write(plain, *(f"{count}/{number}" for count in range(1, 8) for number in range(count)))
    said = refusal(plain, files=1)
    assert "most of them: 7/ (7 files), 6/ (6 files), 5/ (5 files), 4/ (4 files), 3/ (3 files);" in said


def test_far_too_many_files_are_not_all_searched(either, monkeypatch):
    monkeypatch.setattr(Limits, "most_paths", 5)
    write(either, *(f"data/{number}" for number in range(20)))
    said = refusal(either, files=2)
    assert "files among its first 5 paths, and more paths than these, and the limit is 2 files" in said
    assert "data/ (" in said
    assert "snapshot" not in said
    assert len(names(either, ["data"], files=2)) == 2


def test_a_file_of_the_limits_size_is_copied_and_a_larger_one_is_refused(either):
    sparse(either, **{"deep/a.bin": 10_000_000, "b.bin": 1000})
    assert "deep/a.bin" in names(either)
    sparse(either, **{"deep/a.bin": 10_000_001, "c\n.bin": 60_000_000})
    said = refusal(either)
    assert "2 files above the limit of 10 MB for one file: c\\n.bin (60 MB), deep/a.bin (10.1 MB);" in said
    assert said.endswith("or set `snapshot = { total_mb = 71, file_mb = 60 }` under [train]")
    assert "b.bin" in names(either, ["c\n.bin", "deep/a.bin"])


def test_the_five_largest_files_are_named(plain):
    sparse(plain, **{f"{size}.bin": size for size in range(11, 18)})
    said = refusal(plain, file_bytes=10)
    assert (
        "17.bin (17 bytes), 16.bin (16 bytes), 15.bin (15 bytes), 14.bin (14 bytes), 13.bin (13 bytes) and 2 more;"
        in said
    )


def test_bytes_up_to_the_limit_are_copied_and_one_more_is_refused(plain):
    sparse(plain, **{f"{number}.bin": 10_000_000 for number in range(5)})
    assert len(names(plain)) == 5
    sparse(plain, more=1)
    said = refusal(plain)
    assert "its files have 50.1 MB in all, and the limit is 50 MB; the largest: 0.bin (10 MB), " in said
    assert said.endswith("or set `snapshot = { total_mb = 51 }` under [train]")


# -- provenance -----------------------------------------------------------------------------------------------------


def test_the_commit_of_a_clean_directory_is_recorded(repository):
    head = git(repository, "rev-parse", "HEAD").strip()
    assert len(head) == 40
    assert provenance(repository) == {"commit": head, "dirty": False}
    write(repository, "train.py", text="changed")
    assert provenance(repository) == {"commit": head, "dirty": True}
    assert provenance(repository / "deep") == {"commit": head, "dirty": False}
    (repository / "deep" / "model.py").unlink()
    assert provenance(repository / "deep") == {"commit": head, "dirty": True}


def test_only_files_that_would_be_copied_make_a_directory_dirty(repository):
    commit(repository, "deep/study.toml")
    write(repository, "deep/runs.db", "deep/logs/a", "deep/data/b", "deep/__pycache__/c.pyc")
    assert provenance(repository / "deep", ["./data"])["dirty"] is False
    assert provenance(repository / "deep")["dirty"] is True


def test_a_staged_rename_makes_a_directory_dirty(repository):
    git(repository, "mv", "deep/model.py", "deep/other.py")
    assert provenance(repository / "deep")["dirty"] is True


def test_a_changed_submodule_makes_a_directory_dirty(with_submodule):
    assert provenance(with_submodule)["dirty"] is False
    write(with_submodule / "lib", "new.py")
    assert provenance(with_submodule)["dirty"] is True
    commit(with_submodule / "lib")
    assert provenance(with_submodule)["dirty"] is True
    git(with_submodule, "commit", "-q", "-a", "-m", "three")
    assert provenance(with_submodule)["dirty"] is False


def test_where_git_knows_no_commit_nothing_is_recorded(plain):
    write(plain, "train.py")
    assert provenance(plain) == {}
    if shutil.which("git") is not None:
        git(plain, "init", "-q")
    assert provenance(plain) == {}


def test_the_module_does_not_load_torch():
    code = "import sys, lvjobs.tasks.working_copy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
