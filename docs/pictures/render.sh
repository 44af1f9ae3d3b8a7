#!/bin/sh
# Renders every picture here: docs/pictures/render.sh
# Made with Graphviz 2.43.0 and the fonts fonts-liberation (Debian 12: apt-get install graphviz fonts-liberation).
# Another version may lay the pictures out differently: look at them before you commit.
set -eu
cd "$(dirname "$0")"
for source in *.dot; do
    dot -Tsvg "$source" -o "${source%.dot}.svg"
done
