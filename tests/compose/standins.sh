#!/bin/bash
# Brings Docker and images for the tests of the full stack where none can be pulled: the genuine servers on a Debian base,
# made by the scripts in the folder $1. Needs root, a JDK and Maven. Then: TEST_BORG_COMPOSE=standins make test-compose
set -euo pipefail
scripts=$(realpath "$1")
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -r "$scripts" "$work/infra"
chmod -R u+w "$work/infra" # files of the images are copied with their mode, and Kafka writes to some
"$work/infra/docker-up.sh"
STANDIN_DIR=$work/standin "$work/infra/standin-images.sh"

# users and API keys of Elasticsearch need a module that its distribution on Maven Central lacks
image=elasticsearch:8.19.21
plugin=$work/plugin/security-index-analysis
mkdir -p "$plugin" "$work/classes"
container=$(docker create "$image")
docker cp "$container:/usr/share/elasticsearch/lib" "$work/lib" >/dev/null
docker rm --volumes "$container" >/dev/null
javac --release 17 -proc:none -nowarn -cp "$work/lib/*" -d "$work/classes" elasticsearch/SecurityIndexAnalysis.java
jar --create --file "$plugin/security-index-analysis.jar" -C "$work/classes" .
printf '%s\n' description=security version=1 name=security-index-analysis classname=local.SecurityIndexAnalysis \
    java.version=17 "elasticsearch.version=${image#*:}" > "$plugin/plugin-descriptor.properties"
docker build --quiet --file elasticsearch/Dockerfile --build-arg "IMAGE=$image" --tag "$image" "$work/plugin" >/dev/null
echo "images for TEST_BORG_COMPOSE=standins are there"
