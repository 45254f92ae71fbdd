"""Manifests are valid against the definitions that will judge them, fit the presets, and hold no secret; what
a job uploads is small."""

import copy
import json
import re
import shlex
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.config import RunConfig, describe_fields, dump_config, load_config
from cluster.placement_plan import Node, demands, plan_placement
from monitoring.run_dir import RunDirectory

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "cluster" / "deploy"
SCHEMAS = ROOT / "tests" / "schemas"
RAY_UP = sorted(DEPLOY.glob("ray-up-*.yaml"))
KUBERNETES = sorted((DEPLOY / "kuberay").glob("*.yaml"))
PATCHES = sorted((DEPLOY / "kuberay" / "patches").glob("*.yaml"))
UPLOAD_LIMIT_MIB = 8


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def manifest(name: str) -> dict[str, Any]:
    return documents(DEPLOY / "kuberay" / f"{name}.yaml")[0]


def cluster(patch: Path | None = None) -> dict[str, Any]:
    """The RayCluster, as `kubectl patch --type=json` leaves it."""
    operations = yaml.safe_load(patch.read_text()) if patch else []
    return patched(manifest("raycluster"), operations)


def groups(patch: Path | None = None) -> list[dict[str, Any]]:
    """Head and worker groups of the RayCluster."""
    spec = cluster(patch)["spec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def patched(document: Any, operations: list[dict[str, Any]]) -> Any:
    """The document under JSON Patch operations (RFC 6902), of which the files use test, add and replace."""
    found = copy.deepcopy(document)
    for operation in operations:
        assert set(operation) == {"op", "path", "value"}
        *parents, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
        place = found
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        assert isinstance(place, dict)
        if operation["op"] == "add":
            assert last not in place
        else:
            assert operation["op"] in ("test", "replace")
            assert last in place
        if operation["op"] == "test":
            assert place[last] == operation["value"]
        else:
            place[last] = copy.deepcopy(operation["value"])
    return found


def containers() -> Iterator[dict[str, Any]]:
    for group in groups():
        yield from group["template"]["spec"]["containers"]


def closed(schema: Any) -> Any:
    """A copy of the schema that refuses fields it does not name; Kubernetes drops them without a word."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


# Validity


@pytest.mark.parametrize(("name", "kind"), [("raycluster", "RayCluster"), ("rayjob", "RayJob")])
def test_ray_resources_are_what_kuberay_defines(name: str, kind: str) -> None:
    resource = manifest(name)
    assert resource["kind"] == kind
    validator = kuberay(kind)
    validator.validate(resource["spec"])

    resource["spec"]["entrypointt"] = "misspelt"
    with pytest.raises(jsonschema.ValidationError, match="entrypointt"):
        validator.validate(resource["spec"])


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.stem)
def test_patched_clusters_are_what_kuberay_defines(patch: Path) -> None:
    kuberay("RayCluster").validate(cluster(patch)["spec"])


def kuberay(kind: str) -> Any:
    """A validator of the resource's `spec`."""
    schema = json.loads((SCHEMAS / "kuberay-v1.json").read_text())[kind]
    return jsonschema.Draft202012Validator(closed(schema))


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda p: p.stem)
def test_everything_else_is_what_kubernetes_defines(path: Path) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for document in documents(path):
        if document["apiVersion"].startswith("ray.io/"):
            assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        else:
            validator.validate(document, validator.latest_version(), strict=True)


@pytest.mark.parametrize("patch", [None, *PATCHES], ids=lambda p: p.stem if p else "as written")
def test_pods_are_what_kubernetes_defines(patch: Path | None) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for group in groups(patch):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}} | group["template"]
        validator.validate(pod, validator.latest_version(), strict=True)


@pytest.mark.parametrize("path", RAY_UP, ids=lambda p: p.stem)
def test_ray_up_files_are_what_ray_defines(path: Path) -> None:
    """As written, and as `ray up` completes them with the provider's defaults."""
    from ray.autoscaler._private import util

    (config,) = documents(path)
    schema = json.loads((Path(util.__file__).parent.parent / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    util.validate_config(util.prepare_config(config))


@pytest.mark.parametrize("path", [p for p in RAY_UP if "aws" in p.stem], ids=lambda p: p.stem)
def test_instances_are_what_ec2_and_ray_take(path: Path) -> None:
    schema = json.loads((SCHEMAS / "ec2-run-instances.json").read_text())
    for kind in documents(path)[0]["available_node_types"].values():
        node = kind["node_config"]
        jsonschema.validate(node, schema)
        cards = node.get("NetworkInterfaces", [])
        assert not cards or not node.keys() & {"SubnetId", "SubnetIds", "SecurityGroupIds"}
        assert all(card["SubnetId"] and card["Groups"] for card in cards)

    node["InstanceTyp"] = "misspelt"
    with pytest.raises(jsonschema.ValidationError, match="InstanceTyp"):
        jsonschema.validate(node, schema)


# Networks between nodes


def test_the_image_has_what_nccl_opens_for_infiniband() -> None:
    installs = re.search(r"apt-get install (.*?)&&", (ROOT / "Dockerfile").read_text(), re.DOTALL)
    assert installs
    assert {"libibverbs1", "ibverbs-providers"} <= set(installs[1].replace("\\", " ").split())


def test_local_machines_with_rdma_differ_by_the_adapters_alone() -> None:
    (config,) = documents(DEPLOY / "ray-up-local-rdma.yaml")
    for option in ("--device=/dev/infiniband", "--ulimit=memlock=-1:-1"):
        config["docker"]["run_options"].remove(option)
    assert [config] == documents(DEPLOY / "ray-up-local.yaml")


def test_efa_reaches_every_gpu_node_of_the_cloud_file_and_its_containers() -> None:
    (config,) = documents(DEPLOY / "ray-up-aws-efa.yaml")
    assert "--device=/dev/infiniband" in config["docker"]["worker_run_options"]
    assert "--ulimit=memlock=-1:-1" in config["docker"]["run_options"]
    assert config["provider"]["use_internal_ips"] is True  # several interfaces get no public address
    groups_used = set()
    for kind in config["available_node_types"].values():
        node = kind["node_config"]
        cards = node.get("NetworkInterfaces", [])
        groups_used |= {name for card in cards for name in card["Groups"]} | set(
            node.get("SecurityGroupIds", [])
        )
        if kind["resources"].get("GPU"):
            assert [(c["NetworkCardIndex"], c["DeviceIndex"], c["InterfaceType"]) for c in cards] == [
                (0, 0, "interface"),
                (0, 1, "efa-only"),
                *((card, 0, "efa-only") for card in (1, 2, 3)),
            ]
            assert node["Placement"]["GroupName"]
    assert len(groups_used) == 1


@pytest.mark.parametrize(
    ("name", "resource"), [("rdma", "rdma/hca_shared_devices_a"), ("efa", "vpc.amazonaws.com/efa")]
)
def test_patches_give_adapters_to_gpu_pods_and_no_privileges(name: str, resource: str) -> None:
    patch = DEPLOY / "kuberay" / "patches" / f"{name}.yaml"
    before, after = groups(), groups(patch)
    assert before[0] == after[0]
    for old, new in zip(before[1:], after[1:], strict=True):
        pod = new["template"]["spec"]["containers"][0]
        assert resource in pod["resources"]["limits"]
        assert pod["resources"]["limits"] == pod["resources"]["requests"]
        assert pod["securityContext"] == old["template"]["spec"]["containers"][0]["securityContext"]


# Agreement with the rest


def test_a_run_fits_the_groups_that_the_job_names() -> None:
    """Every label that the job selects is one of a group, and the groups at their limits are enough."""
    assert_fits(_job_config(), _grown_groups())


def test_a_run_does_not_fit_groups_under_other_labels() -> None:
    renamed = [Node(n.address, {"group": "other"}, n.cpus, n.gpus) for n in _grown_groups()]
    assert len(plan_placement(renamed, *demands(_job_config())).missing) == 2


@pytest.mark.parametrize(
    ("file", "preset", "overrides"),
    [
        ("ray-up-aws", "internvl3-8b", ["--learner.ranks=8", "--rollout.replicas=8"]),
        ("ray-up-aws-efa", "internvl3-8b-16gpu", []),
        ("ray-up-aws-efa", "internvl3-8b-16gpu", ["--learner.ranks=16", "--rollout.replicas=16"]),
    ],
)
def test_a_run_fits_the_nodes_of_the_cloud_files(file: str, preset: str, overrides: list[str]) -> None:
    (config,) = documents(DEPLOY / f"{file}.yaml")
    nodes = [
        Node(name, kind["labels"], kind["resources"]["CPU"], kind["resources"].get("GPU", 0))
        for name, kind in config["available_node_types"].items()
        for _ in range(kind.get("max_workers", 0))
    ]
    overrides = [
        *overrides,
        "--learner.label_selector=group=learner",
        "--rollout.label_selector=group=rollout",
    ]
    assert_fits(load_config(ROOT / "configs" / f"{preset}.toml", overrides), nodes)


def test_larger_learners_fit_the_groups_with_efa() -> None:
    overrides = ["--learner.ranks=16", "--rollout.replicas=16"]
    overrides += ["--learner.label_selector=group=learner", "--rollout.label_selector=group=rollout"]
    config = load_config(ROOT / "configs" / "internvl3-8b-16gpu.toml", overrides)
    assert_fits(config, _grown_groups(DEPLOY / "kuberay" / "patches" / "efa.yaml"))
    assert plan_placement(_grown_groups(), *demands(config)).missing


def assert_fits(config: RunConfig, nodes: list[Node]) -> None:
    assert plan_placement(nodes, *demands(config)).missing == []


def test_the_manifests_run_the_locked_ray() -> None:
    locked = (ROOT / "setup" / "gpu.lock").read_text()
    assert f"ray=={manifest('raycluster')['spec']['rayVersion']}" in locked


def test_login_shells_of_the_image_find_ray(tmp_path: Path) -> None:
    """`ray up` runs its commands in them, and /etc/profile sets PATH anew before it reads its folder."""
    as_root, _ = re.split(r"^USER ", (ROOT / "Dockerfile").read_text(), maxsplit=1, flags=re.MULTILINE)
    (write,) = re.findall(r"^RUN (.*> /etc/profile\.d/\S+\.sh)$", as_root, re.MULTILINE)
    script = tmp_path / "venv.sh"
    subprocess.run(["sh", "-c", re.sub(r"/etc/profile\.d/\S+", str(script), write)], check=True, timeout=10)
    login = f"PATH=/usr/bin:/bin; . {script}; echo $PATH"
    shell = subprocess.run(["sh", "-c", login], check=True, timeout=10, capture_output=True, text=True)
    assert shell.stdout == "/opt/venv/bin:/usr/bin:/bin\n"


# Security


def test_token_authentication_is_on() -> None:
    options = manifest("raycluster")["spec"]["authOptions"]
    assert options["mode"] == "token"
    assert options["secretName"] in (ROOT / "docs" / "cluster.md").read_text()
    for path in RAY_UP:
        (config,) = documents(path)
        assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
        assert "~/.ray/auth_token" in config["file_mounts"]


def test_secrets_come_from_secrets() -> None:
    secrets = [
        variable
        for container in containers()
        for variable in container["env"]
        if "TOKEN" in variable["name"] or "KEY" in variable["name"]
    ]
    assert secrets
    for variable in secrets:
        assert "value" not in variable
        secret = variable["valueFrom"]["secretKeyRef"]["name"]
        assert f"kubectl create secret generic {secret}" in (ROOT / "docs" / "cluster.md").read_text()


def test_pods_run_without_privileges() -> None:
    for group in groups():
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    for container in containers():
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_dashboard_listens_on_loopback_only() -> None:
    assert RAY_UP
    for path in RAY_UP:
        (config,) = documents(path)
        head = next(command for command in config["head_start_ray_commands"] if "ray start" in command)
        assert "--dashboard-host=127.0.0.1" in head


def test_a_run_directory_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting asks for one, and nothing of the environment is written down."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ray_secret")
    assert not [n for n, _, _ in describe_fields() if re.search("secret|password|credential|key$|token$", n)]
    RunDirectory(tmp_path).create(dump_config(RunConfig()), "hash")
    written = [p.read_text() for p in tmp_path.iterdir() if p.is_file()]
    assert len(written) == 2
    assert not [text for text in written if "_secret" in text]


# Upload


def test_what_a_job_uploads_is_small_and_holds_what_a_run_needs(tmp_path: Path) -> None:
    from ray._private import ray_constants
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    create_package(
        str(ROOT),
        package,
        include_gitignore=True,
        excludes=ray_constants.get_runtime_env_default_excludes(),
    )
    assert package.stat().st_size < UPLOAD_LIMIT_MIB * 2**20
    with zipfile.ZipFile(package) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    for needed in (
        "launch.py",
        "configs/internvl3-8b.toml",
        "cluster/controller_actor.py",
        "demo/tiny-internvl/config.json",
    ):
        assert needed in names
    top = {name.split("/")[0] for name in names}
    assert not top & {".git", ".venv", ".mypy_cache", "runs", "tests", "docs"}
    assert not [n for n in names if n.endswith((".mp4", ".pyc")) or n.startswith("demo/built/")]


def _job_config() -> RunConfig:
    _, _, command, preset, *overrides = shlex.split(manifest("rayjob")["spec"]["entrypoint"])
    assert command == "train"
    return load_config(ROOT / preset.removeprefix("/app/"), overrides)


def _grown_groups(patch: Path | None = None) -> list[Node]:
    nodes = []
    for group in groups(patch)[1:]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        node = Node(
            group["groupName"], group["labels"], float(limits["cpu"]), float(limits["nvidia.com/gpu"])
        )
        nodes += [node] * group["maxReplicas"]
    return nodes
