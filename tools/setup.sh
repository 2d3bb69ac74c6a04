#!/usr/bin/env bash
# Set-up of everything that is not Skate itself: Debian packages and the virtual environment.
# usage: tools/setup.sh GROUP...    (groups: build, test, spark, spark35, mlflow, bench, clients)
#
# Each group leaves a stamp under build/stamps/ that is newer than its lists, so that a second
# run does nothing and takes no time. Safe to interrupt and to repeat. Uses sudo when not root.
set -euo pipefail
cd "$(dirname "$0")/.."
stamps=build/stamps
mkdir -p "$stamps"
exec 9>build/.setup.lock
flock 9

say() { printf 'set-up: %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        say "need root or sudo for: $*" >&2
        return 1
    fi
}

apt_group() {    # install what tools/apt-packages.txt lists for group $1 and is not there yet
    local group=$1 missing=() name
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: install the packages of tools/apt-packages.txt yourself"
        return 0
    fi
    while read -r name; do
        dpkg-query -W -f='${Status}\n' "$name" 2>/dev/null | grep -q 'ok installed' ||
            missing+=("$name")
    done < <(awk -v g="$group" '!/^#/ { for (i = 2; i <= NF; i++) if ($i == g) print $1 }' \
        tools/apt-packages.txt)
    [ ${#missing[@]} -gt 0 ] || return 0
    say "apt-get install ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >"build/apt-$group.log" 2>&1 || {
        tail -20 "build/apt-$group.log" >&2
        return 1
    }
}

find_python() {    # the interpreter that the environment is made from
    local p
    for p in ${PYTHON:-} python3.11 python3; do
        if "$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$p"
            return 0
        fi
    done
    say "no Python 3.11 or later found (set PYTHON=...)" >&2
    return 1
}

make_venv() {    # $1 folder
    if [ ! -x "$1/bin/python" ] || ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then
        say "virtual environment $1"
        "$(find_python)" -m venv "$1"
    fi
}

pip_group() {    # $1 folder of the environment, $2 requirements file
    say "pip install -r $2"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 -r "$2"
}

for group in "$@"; do
    stamp=$stamps/$group list=tools/requirements-$group.txt
    venv=.venv
    [ "$group" = bench ] && venv=build/rayenv
    [ "$group" = clients ] && venv=build/clients
    [ "$group" = mlflow ] && venv=build/mlflow
    [ "$group" = spark35 ] && venv=build/spark35
    if [ "$stamp" -nt tools/apt-packages.txt ] && [ "$stamp" -nt "$list" ] &&
        [ "$stamp" -nt tools/setup.sh ] && [ -x "$venv/bin/python" ]; then
        continue
    fi
    apt_group "$group"
    make_venv "$venv"
    pip_group "$venv" "$list"
    touch "$stamp"
done
