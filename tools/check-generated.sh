#!/bin/sh
# Fails where a generated file is not what its source makes today; changes nothing.
#   tools/check-generated.sh [wire | requirements | events]...      default: all
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

stale() { echo "$1 is not what $2 makes of its source: run '$2' and commit the result." >&2; exit 1; }

for part in "${@:-all}"; do
    case $part in wire | all)
        PYTHON="$PWD/.venv/bin/python" proto/generate.sh "$fresh/wire"
        diff -r -q -x __pycache__ libs/borgcore/borgcore/wire "$fresh/wire" || stale libs/borgcore/borgcore/wire "make proto" ;;
    esac
    case $part in requirements | all)
        requirements/export.sh "$fresh/requirements"
        diff -r -q -x export.sh requirements "$fresh/requirements" || stale requirements/ "make lock" ;;
    esac
    case $part in events | all)
        .venv/bin/python -m borgcore.events.reference > "$fresh/events.md"
        cmp -s docs/events.md "$fresh/events.md" || stale docs/events.md "python -m borgcore.events.reference > docs/events.md" ;;
    esac
done
