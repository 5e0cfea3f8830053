"""Scenarios of remedies for the machine and the site: who makes passes, whose the study is, what is installed."""

import os
import shlex
import stat
import sys
import time
import zipfile
from types import SimpleNamespace

import pytest
from driver_scenes import Refusing
from remedy_scenes import TOML, typed_scene

from lvjobs import remedies
from lvjobs.api import driver, updates
from lvjobs.doctor import software

NOBODY = 65534


# -- who makes passes ----------------------------------------------------------------------------------------------------


TABLE = """#!/bin/sh
if [ "$1" = "-l" ]; then
  [ -f "{table}" ] || {{ echo "no $(basename $0) for somebody" >&2; exit 1; }}
  cat "{table}"
else
  cat "$1" > "{table}"
fi
"""

NOT_OFFERED = "#!/bin/sh\necho 'you are not allowed to use this program' >&2\nexit 1\n"


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Programs of cron that keep their tables; `tables(name)` offers one. Those that are not offered refuse."""
    programs = tmp_path.parent / f"{tmp_path.name}-bin"
    programs.mkdir()
    for name in ("crontab", "scrontab"):
        (programs / name).write_text(NOT_OFFERED)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)

    def offer(name):
        table = programs / f"{name}.table"
        (programs / name).write_text(TABLE.format(table=table))
        return table

    return offer


PRICED = TOML.replace("toy_task:train", "toy_task:priced").replace('name = "one"\n', "")


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return typed_scene(tmp_path, monkeypatch, PRICED)


@pytest.fixture
def driven(tmp_path, monkeypatch):
    """A scene whose study wants a driver, at a site that takes none."""
    return typed_scene(tmp_path, monkeypatch, PRICED.partition("[driver]")[0])


@pytest.fixture
def passing(scene, monkeypatch):
    """While `lvjobs watch` waits, time passes on the cluster; it does not wait for ever."""
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        assert len(waits) < 100, "it watches for ever"
        scene.cluster.advance(int(seconds))

    monkeypatch.setattr(updates, "time", SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=sleep))
    return waits


@pytest.mark.remedy("WATCH")
@pytest.mark.parametrize("asks", [("driver", "status"), ("driver", "install"), ("driver", "install", "--scrontab")])
def test_watch_completes_a_run_that_nothing_else_takes_further(scene, tables, passing, typed, take, asks):
    typed("submit", "run", "--name", "one")
    scene.cluster.kill(scene.reach(2).id)
    scene.cluster.advance(600)
    assert scene.alive() == [], "nobody submits it again"
    _, out, err = typed(*asks)
    code, shown, _ = take(remedies.WATCH, out + err)
    assert code == 0
    assert passing, "it waited"
    assert "one: completed" in shown
    assert scene.state() == "completed"


def entry_of(table):
    """The command that cron runs, as words, without the environment and the log."""
    (line,) = (line for line in table.read_text().splitlines() if line.startswith("*"))
    words = shlex.split(line.partition(" && ")[2].partition(">>")[0])
    return words[words.index("lvjobs") + 1 :]


def cron_makes_passes(scene, table, typed, monkeypatch):
    """Time passes, and cron does what its table says, until the run has ended."""
    monkeypatch.setattr(driver, "_MOST_PASSES", 1)
    monkeypatch.setattr(driver, "_goes_on", lambda _: False)
    for _ in range(20):
        scene.cluster.advance(300)
        typed(*entry_of(table))
        if scene.state() == "completed":
            return
    raise AssertionError(scene.state())


def a_driver_that_is_refused(scene, typed, **offers):
    """A run is under way, and the site has refused its driver; what `driver status` says of that."""
    scene.shown = Refusing(scene.cluster, **offers)
    typed("submit", "run", "--name", "one")
    _, shown, _ = typed("driver", "status")
    assert "no driver: the site refused it" in shown
    return shown


@pytest.mark.remedy("DRIVER_INSTALL", "DRIVER_UNINSTALL")
def test_cron_makes_passes_where_the_site_refuses_the_driver(driven, tables, typed, take, monkeypatch):
    table = tables("crontab")
    code, installed, _ = take(remedies.DRIVER_INSTALL, a_driver_that_is_refused(driven, typed))
    assert code == 0
    cron_makes_passes(driven, table, typed, monkeypatch)
    _, shown, _ = typed("driver", "status")
    assert "crontab updates the study" in shown
    assert "no driver" not in shown, "that trouble is gone"
    take(remedies.DRIVER_UNINSTALL, installed)
    assert table.read_text() == ""

    # from another directory the study is named, and so it is in what is to be typed
    where = ("--study", str(driven.root))
    monkeypatch.chdir("/")
    typed("driver", "install", *where)
    take(remedies.DRIVER_UNINSTALL, typed("driver", "status", *where)[1], *where)
    assert table.read_text() == ""


@pytest.mark.remedy("DRIVER_INSTALL_SCRONTAB")
def test_scrontab_makes_passes_where_the_site_offers_it(driven, tables, typed, take, monkeypatch):
    table = tables("scrontab")
    shown = a_driver_that_is_refused(driven, typed, scrontab=True)
    code, _, _ = take(remedies.DRIVER_INSTALL_SCRONTAB, shown)
    assert code == 0
    cron_makes_passes(driven, table, typed, monkeypatch)
    assert "scrontab updates the study" in typed("driver", "status")[1]


# -- the directory of the study ------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty directory in which one is; PATH has no Slurm."""
    directory, programs = tmp_path / "study", tmp_path / "bin"
    directory.mkdir(mode=0o700)
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    monkeypatch.chdir(directory)
    return directory


def of_a_task(root):
    """A study.toml whose runs need neither data nor a model."""
    (root / "study.toml").write_text('profile = "local"\n[train]\ntask = "toy_task:train"\n')


@pytest.mark.remedy("INIT_PROFILE")
@pytest.mark.parametrize("profile", ["local", "generic"])
def test_a_directory_without_a_study(root, tmp_path, monkeypatch, typed, take, profile):
    _, shown, _ = typed("doctor", "--profile", profile)
    assert take(remedies.INIT_PROFILE, shown, profile=profile)[0] == 0
    assert f'profile = "{profile}"' in (root / "study.toml").read_text()
    assert "no study in" not in typed("doctor")[1]
    elsewhere = tmp_path / "a directory"
    elsewhere.mkdir()
    _, shown, _ = typed("doctor", "--study", elsewhere, "--profile", profile)
    take(remedies.INIT_PROFILE, shown, "--study", str(elsewhere), profile=profile)
    assert (elsewhere / "study.toml").exists(), "not where one is"


@pytest.mark.remedy("INIT_ELSEWHERE")
def test_a_study_of_another_user(root, typed, take):
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    of_a_task(root)
    os.chown(root, NOBODY, NOBODY)
    code, shown, _ = typed("doctor")
    assert (code, "belongs to user" in shown) == (1, True)
    code, _, _ = take(remedies.INIT_ELSEWHERE, shown, choose={"DIR": "../mine"})
    assert code == 0
    assert "belongs to user" not in typed("doctor", "--study", "../mine")[1]


@pytest.fixture
def no_root():
    """Be an ordinary user as far as permissions are asked for, and able to read all modules."""
    if os.geteuid() != 0:
        yield
        return
    os.setreuid(NOBODY, 0)
    yield
    os.setreuid(0, 0)


@pytest.mark.remedy("CHMOD_OWNER")
@pytest.mark.parametrize("mode", [0o500, 0o555])
def test_a_study_that_cannot_be_written(short_path, monkeypatch, typed, take, request, mode):
    root = short_path / "study"
    root.mkdir()
    monkeypatch.chdir(root)
    of_a_task(root)
    if os.geteuid() == 0:
        short_path.chmod(0o711)
        os.chown(root, NOBODY, NOBODY)
        os.chown(root / "study.toml", NOBODY, NOBODY)
    request.getfixturevalue("no_root")
    root.chmod(mode)
    code, shown, _ = typed("doctor")
    assert (code, f"cannot be written (mode {mode:o})" in shown) == (1, True)
    assert take(remedies.CHMOD_OWNER, shown, path=root)[0] == 0
    assert stat.S_IMODE(root.stat().st_mode) == mode | stat.S_IRWXU
    assert "cannot be written" not in typed("doctor")[1]


# -- packages ------------------------------------------------------------------------------------------------------------


def a_wheel(directory, name, version):
    """A package that holds nothing, as pip installs it."""
    about = f"{name}-{version}.dist-info"
    directory.mkdir()
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


@pytest.mark.remedy("INSTALL_VERSIONS")
def test_a_package_that_is_missing(root, tmp_path, monkeypatch, typed, take):
    of_a_task(root)
    a_wheel(tmp_path / "index", "nothing_at_all", "2.1")
    site = tmp_path / "site"
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", tmp_path / "index"), ("TARGET", site), ("NO_INPUT", "1")):
        monkeypatch.setenv(f"PIP_{name}", str(value))
    monkeypatch.setattr(software.metadata, "requires", lambda _: ["nothing_at_all>=2"])
    monkeypatch.syspath_prepend(site)
    code, shown, _ = typed("doctor")
    assert (code, "nothing_at_all is not installed" in shown) == (1, True)
    code, _, err = take(remedies.INSTALL_VERSIONS, shown, python=sys.executable, packages=["nothing_at_all>=2"])
    assert code == 0, err
    code, shown, _ = typed("doctor")
    assert (code, "too old, or missing" in shown) == (0, False)


def test_what_is_run_from_a_directory_is_installed_from_there(root, typed, monkeypatch):
    def absent(name):
        raise software.metadata.PackageNotFoundError(name)

    of_a_task(root)
    monkeypatch.setattr(software.metadata, "requires", absent)
    source = software.Path(software.lvjobs.__file__).parent.parent
    assert f"{sys.executable} -m pip install -e {source}" in " ".join(typed("doctor")[1].split())
