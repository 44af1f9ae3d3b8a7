#!/bin/bash
# Reads secrets from files into its environment, where `docker inspect` does not show them, and starts Logstash.
set -euo pipefail
KAFKA_PASSWORD=$(< /run/keys/borg_events_password)
LOGSTASH_API_KEY=$(< /run/keys/logstash_api_key)
export KAFKA_PASSWORD LOGSTASH_API_KEY
exec /usr/local/bin/docker-entrypoint "$@"
