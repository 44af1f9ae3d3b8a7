"""Run Debian's rsyslog as a shipper: imkafka (rsyslog-kafka) to omelasticsearch (rsyslog-elasticsearch)."""

import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

BATCH = 5_000  # documents per request, our default
_CONFIG = """\
global(workDirectory="{folder}" maxMessageSize="64k")
module(load="imkafka")
module(load="omelasticsearch")
template(name="index" type="string" string="{index}")
template(name="value" type="string" string="%rawmsg%")
main_queue(queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="{batch}")
input(type="imkafka" broker="{kafka}" topic="{topic}" consumergroup="{group}"
      confParam=["auto.offset.reset=earliest"] ruleset="ship")
ruleset(name="ship" queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="{batch}") {{
  action(type="omelasticsearch" server="{host}" serverport="{port}" esVersion.major="8" template="value"
         dynSearchIndex="on" searchIndex="index" bulkmode="on" maxbytes="10m" action.resumeRetryCount="-1")
}}
"""


def find_rsyslog() -> Path | None:
    """Return rsyslogd's path, or None if it or one of the modules is not installed."""
    program = shutil.which("rsyslogd", path="/usr/sbin:/sbin:/usr/bin:/usr/local/sbin")
    modules = [*Path("/usr/lib").glob("*/rsyslog/imkafka.so"), *Path("/usr/lib").glob("*/rsyslog/omelasticsearch.so")]
    return Path(program) if program is not None and len({module.name for module in modules}) == 2 else None  # noqa: PLR2004  # both modules


def rsyslog_version(program: Path) -> str:
    """Return the version the program reports."""
    answer = subprocess.run([program, "-v"], capture_output=True, check=True, text=True)
    return answer.stdout.split()[1]


def rsyslog_command(
    program: Path, folder: Path, *, kafka: str, topic: str, group: str, url: str, index: str
) -> list[str]:
    """Write a configuration to ``folder``; return the command that runs rsyslog with it in the foreground."""
    address = urlsplit(url)
    config = folder / "rsyslog.conf"
    where = {"folder": folder, "kafka": kafka, "topic": topic, "group": group, "index": index}
    text = _CONFIG.format(**where, host=address.hostname, port=address.port, batch=BATCH)
    config.write_text(text)
    return [str(program), "-n", "-f", str(config), "-i", str(folder / "rsyslogd.pid")]
