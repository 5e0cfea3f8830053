# Sourced by the two commands of the README: makes .venv (again, where pyproject.toml has changed) and installs lvjobs
# into it. Needs Python 3.10 to 3.13 and nothing else; as root on Debian or Ubuntu it adds what Python lacks.

find_python() {
  for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "lvjobs needs Python 3.10 to 3.13 on PATH, and found none" >&2
  return 1
}

make_environment() {  # $1: what to install, such as ".[dev]"
  python=$(find_python)
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then  # Debian keeps these two in a package of their own
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
      echo "this Python cannot make virtual environments; install that first: sudo apt-get install python3-venv" >&2
      return 1
    fi
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  fi
  stamp=.venv/installed
  wanted="$1 $(cksum <pyproject.toml)"
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    echo "installing lvjobs and what it needs into .venv (some minutes, once)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$1"
    echo "$wanted" >"$stamp"
  fi
}
