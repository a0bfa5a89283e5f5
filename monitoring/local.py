"""A Prometheus that scrapes the stack of ``nearby up``, with our rules: ``python -m monitoring.local --help``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RULES = Path(__file__).parent / "rules"


def targets(stack: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return ``HOST:PORT`` of each process in ``stack.json`` by the job name that the rules expect."""
    urls = {
        "nearby-gateway": [gateway["admin_url"] for gateway in stack["gateways"]],
        "nearby-api": [stack["api_admin_url"]],
        "nearby-history-writer": [stack["history_writer"]["admin_url"]],
        "nearby-ring-keeper": [stack["ring_keeper"]["admin_url"]],
    }
    return {job: [urlsplit(url).netloc for url in found] for job, found in urls.items()}


def configuration(
    jobs: Mapping[str, Sequence[str]], rules: Sequence[Path] = (RULES / "*.yaml",), interval_s: float = 15
) -> str:
    """Return the configuration of a Prometheus that scrapes and evaluates every ``interval_s``; JSON is YAML, too."""
    interval = f"{round(interval_s * 1000)}ms"
    return json.dumps(
        {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in jobs.items()
            ],
        },
        indent=2,
    )


def command(config: Path, data_dir: Path, listen: str) -> list[str]:
    """Return the command line of a Prometheus that serves at ``listen``, ``HOST:PORT``."""
    program = shutil.which("prometheus")
    if program is None:
        raise SystemExit("Prometheus is missing; install it: apt-get install prometheus")
    return [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={data_dir}",
        f"--web.listen-address={listen}",
        "--log.level=warn",
    ]


def main(arguments: Sequence[str]) -> None:
    """Become the Prometheus of the stack in ``--data-dir`` until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.local", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(".nearby"), help="where `nearby up` keeps its data")
    parser.add_argument("--listen", default="127.0.0.1:9090", help="HOST:PORT of Prometheus")
    parser.add_argument("--job", action="append", default=[], metavar="NAME=HOST:PORT", help="one more to scrape")
    options = parser.parse_args(arguments)
    jobs = targets(json.loads((options.data_dir / "stack.json").read_text(encoding="utf-8")))
    for job in options.job:
        name, _, address = job.partition("=")
        jobs.setdefault(name, []).append(address)
    directory = Path(tempfile.mkdtemp(prefix="nearby-prometheus-"))
    config = directory / "prometheus.yaml"
    config.write_text(configuration(jobs), encoding="utf-8")
    program, *rest = command(config, directory / "data", options.listen)
    sys.stdout.write(f"http://{options.listen}/alerts  (data: {directory})\n")
    sys.stdout.flush()
    os.execv(program, [program, *rest])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
