#!/bin/sh
# Fails if a generated file differs from the output of its generator; changes nothing.
#   tools/check-generated.sh [wire | requirements | events | settings | dashboard]...      default: all
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

stale() { echo "$1 is out of date: run '$2' and commit the result." >&2; exit 1; }

# Resolves to the pinned versions, not the newest: a release an index shows late, or a yanked one, does not fail the check.
# For the same reason the index may list more files of a version, so more hashes, than the pins, but never fewer.
in_step() { # in_step PINNED FRESH: prints unexpected differences; fails if there are any
    { [ -f "$1" ] && [ -f "$2" ]; } || { echo "$1 is missing on one side"; return 1; }
    sed 's/ \\$//' "$1" > "$fresh/pinned"
    sed 's/ \\$//' "$2" > "$fresh/made"
    { grep -vxFf "$fresh/made" "$fresh/pinned"; grep -v -e --hash= "$fresh/made" | grep -vxFf "$fresh/pinned"; } > "$fresh/odd" || true
    cat "$fresh/odd" >&2
    [ ! -s "$fresh/odd" ]
}

for part in "${@:-all}"; do
    case $part in wire | all)
        PYTHON="$PWD/.venv/bin/python" proto/generate.sh "$fresh/wire"
        diff -r -q -x __pycache__ libs/borgcore/borgcore/wire "$fresh/wire" || stale libs/borgcore/borgcore/wire "make proto" ;;
    esac
    case $part in requirements | all)
        requirements/export.sh "$fresh/requirements" requirements || stale requirements/ "make lock"
        for file in "$fresh"/requirements/*.txt requirements/*.txt; do
            in_step "requirements/$(basename "$file")" "$fresh/requirements/$(basename "$file")" || stale "requirements/$(basename "$file")" "make lock"
        done ;;
    esac
    case $part in events | all)
        .venv/bin/python -m borgcore.events.reference > "$fresh/events.md"
        cmp -s docs/events.md "$fresh/events.md" || stale docs/events.md "python -m borgcore.events.reference > docs/events.md" ;;
    esac
    case $part in settings | all)
        .venv/bin/python -m borgcli.settings_reference > "$fresh/settings.md"
        cmp -s docs/settings.md "$fresh/settings.md" || stale docs/settings.md "python -m borgcli.settings_reference > docs/settings.md" ;;
    esac
    case $part in dashboard | all)
        .venv/bin/python -m borgsetup.kibana > "$fresh/dashboard.ndjson"
        cmp -s deploy/kibana/dashboard.ndjson "$fresh/dashboard.ndjson" ||
            stale deploy/kibana/dashboard.ndjson "python -m borgsetup.kibana > deploy/kibana/dashboard.ndjson" ;;
    esac
done
