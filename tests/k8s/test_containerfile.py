"""The image has all that runs, and runs as the user that the manifests name."""

from __future__ import annotations

import re
import tomllib

from tests.support.manifests import OURS, ROOT, rendered

LINES = re.sub(r"\\\n", " ", (ROOT / "Containerfile").read_text()).splitlines()


def said(instruction: str) -> list[str]:
    return [line.removeprefix(f"{instruction} ") for line in LINES if line.startswith(f"{instruction} ")]


def test_every_package_of_the_wheel_and_what_it_is_built_of_reaches_the_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "requirements", "pyproject.toml"}
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}
    first, *rest = (ROOT / ".containerignore").read_text().split()
    assert first == "*"
    assert {line.removeprefix("!") for line in rest if line.startswith("!")} == needed


def test_it_runs_as_the_user_of_the_manifests_and_keeps_what_it_keeps_where_they_have_a_volume() -> None:
    user, group = said("USER")[-1].split(":")
    assert f"--uid {user}" in said("RUN")[-1]
    for name in OURS:
        spec = rendered("production").workload(name).spec
        assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) == (int(user), int(group))
        mounts = spec["containers"][0]["volumeMounts"]
        assert said("WORKDIR")[-1] in {mount["mountPath"] for mount in mounts}


def test_it_has_two_stages_on_a_base_with_a_version_and_everything_is_checked_against_hashes() -> None:
    (version,) = said("ARG")
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+", version)
    image = "python:${PYTHON}"
    assert said("FROM") == [f"{image}-bookworm AS build", f"{image}-slim-bookworm"]
    downloads = [part for run in said("RUN") for part in run.split("&&") if "pip install" in part]
    assert len(downloads) == 3
    assert all("--require-hashes" in part or "/tmp/wheel" in part for part in downloads)
