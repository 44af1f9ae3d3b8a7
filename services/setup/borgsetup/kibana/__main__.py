"""``python -m borgsetup.kibana`` prints deploy/kibana/dashboard.ndjson."""

import sys

from borgsetup.kibana.objects import ndjson

if __name__ == "__main__":
    sys.stdout.buffer.write(ndjson())
