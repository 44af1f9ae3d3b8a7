#!/bin/sh
# Runs uv in this workspace: `tools/uv.sh sync` needs only Python >= 3.11.
# Uses a uv of the bounded version on PATH, or installs one into .uv/. Never downloads Python.
set -eu
cd "$(dirname "$0")/.."

uv_series=0.13 # one series, because the spelling of requirements/*.txt differs between series
uv_bound=">=0.13.9,<0.14"
uv=uv

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' >/dev/null 2>&1; }
fail() { echo "$*; nothing was installed." >&2; exit 1; }

find_python() {
    for name in ${UV_PYTHON:+"$UV_PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if fits "$name"; then "$name" -c 'import sys; print(sys.executable)'; return; fi
    done
    found=$(python3 --version 2>/dev/null) || found="no python3"
    fail "Borg-DQN needs Python 3.11 to 3.14 and found $found: install one (Debian, Ubuntu: apt install python3 python3-venv)"
}

has_uv() { case $("$uv" --version 2>/dev/null) in "uv $uv_series."*) ;; *) return 1 ;; esac; }

install_uv() {
    uv=.uv/bin/uv
    has_uv && return
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$1 has no venv module: install it (Debian, Ubuntu: apt install python$version-venv) or uv $uv_series"
    echo "Installing uv into .uv/"
    { "$1" -m venv --clear .uv && .uv/bin/python -m pip install -q --disable-pip-version-check "uv$uv_bound"; } ||
        fail "uv $uv_series could not be installed into .uv/ (see the reason above): fix that or install uv $uv_series"
}

python=$PWD/.venv/bin/python # keep an existing environment
fits "$python" || python=$(find_python)
has_uv || install_uv "$python"

unset VIRTUAL_ENV UV_PROJECT_ENVIRONMENT # the Makefile expects .venv
export UV_PYTHON="$python" UV_PYTHON_DOWNLOADS=never
exec "$uv" "$@"
