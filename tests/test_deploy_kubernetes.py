"""The resources of examples/kubernetes are valid for Kubernetes and the operator, and refer to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.manifests import PROMETHEUS, alerts, documents, named, resources
from web_prom.config import FIELDS, PREFIX

pytestmark = pytest.mark.slow

MONITORS = ("PodMonitor/shop", "ServiceMonitor/shop")

# The oldest release that the page names, and the newest that the package has.
KUBERNETES_VERSIONS = ("1.31", "newest")


def check_with_kubernetes(resource: dict[str, Any], version: str) -> None:
    """Fail unless a resource is valid for Kubernetes, without unknown fields."""
    kubernetes_validate = import_module("kubernetes_validate")
    wanted = kubernetes_validate.latest_version() if version == "newest" else version
    kubernetes_validate.validate(resource, wanted, strict=True)


Problems = Callable[[dict[str, Any]], list[str]]


@cache
def validator_of(kind: str) -> Any:
    """Return what validates a resource of the Prometheus operator, unknown fields refused."""
    models = import_module("cloudcoil.models.prometheus_operator.v1")
    schema = getattr(models, kind).model_json_schema()
    for part in _parts(schema):
        if "properties" in part:
            part.setdefault("additionalProperties", False)
    return import_module("jsonschema").Draft202012Validator(schema)


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for child in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _parts(child)


@pytest.fixture(scope="module")
def problems() -> Problems:
    """Return a function that returns the errors of a resource of the Prometheus operator.

    One process runs all tests with this fixture, because the import of the models takes seconds.
    """
    return lambda resource: [each.message for each in validator_of(resource["kind"]).iter_errors(resource)]


CORE = [name for name, resource in resources().items() if "monitoring" not in resource["apiVersion"]]


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("name", CORE)
def test_resource_is_valid_for_kubernetes(name: str, version: str) -> None:
    check_with_kubernetes(resources()[name], version)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_schema_rejects_a_misspelt_field(version: str) -> None:
    resource = resources()["Deployment/shop"]
    spec = resource["spec"]["template"]["spec"]["containers"][0]
    spec["enviroment"] = spec.pop("env")
    with pytest.raises(Exception, match="enviroment"):
        check_with_kubernetes(resource, version)


@pytest.mark.parametrize("name", MONITORS)
def test_monitor_is_valid_for_the_operator(problems: Problems, name: str) -> None:
    assert problems(resources()[name]) == []


@named([PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml"])
def test_rules_are_a_valid_prometheusrule_spec(problems: Problems, path: Path) -> None:
    (rules,) = documents(path)
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "shop"},
        "spec": rules,
    }
    assert problems(rule) == []
    rules["groups"][0]["rules"][0]["exprs"] = "1"
    assert len(problems(rule)) == 1


@pytest.mark.parametrize("name", MONITORS)
def test_operator_schema_rejects_a_misspelt_field_or_wrong_value(problems: Problems, name: str) -> None:
    resource = resources()[name]
    (endpoint,) = resource["spec"].get("podMetricsEndpoints") or resource["spec"]["endpoints"]
    for key, value in (("intervall", "15s"), ("interval", "15 seconds"), ("honorLabels", "perhaps")):
        wrong = deepcopy(resource)
        (changed,) = wrong["spec"].get("podMetricsEndpoints") or wrong["spec"]["endpoints"]
        changed[key] = value
        assert problems(wrong), key
    assert endpoint["interval"] == "15s"


def template() -> dict[str, Any]:
    """Return the pod of the Deployment."""
    pod: dict[str, Any] = resources()["Deployment/shop"]["spec"]["template"]
    return pod


def test_selectors_match_the_pods_of_the_deployment() -> None:
    found = resources()
    labels = template()["metadata"]["labels"].items()
    selectors = [
        found["Deployment/shop"]["spec"]["selector"]["matchLabels"],
        found["Service/shop"]["spec"]["selector"],
        found["Service/shop-metrics"]["spec"]["selector"],
        found["PodMonitor/shop"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy/shop"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert [selector for selector in selectors if not selector.items() <= labels] == []
    selector = found["ServiceMonitor/shop"]["spec"]["selector"]["matchLabels"].items()
    services = [name for name in found if name.startswith("Service/")]
    chosen = [name for name in services if selector <= found[name]["metadata"]["labels"].items()]
    assert chosen == ["Service/shop-metrics"]


def test_monitors_give_the_job_of_the_rules() -> None:
    """One monitor takes it from the pod, the other one from the Service."""
    found = resources()
    label = found["PodMonitor/shop"]["spec"]["jobLabel"]
    assert template()["metadata"]["labels"][label] == "shop"
    label = found["ServiceMonitor/shop"]["spec"]["jobLabel"]
    assert found["Service/shop-metrics"]["metadata"]["labels"][label] == "shop"
    assert '{job="shop"}' in alerts()["TargetDown"]["expr"]


def test_ports_are_ports_of_the_container() -> None:
    found = resources()
    (container,) = template()["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    environ = {item["name"]: item["value"] for item in container["env"]}
    assert environ["PROM_BIND"] == f":{ports['metrics']}"
    assert container["args"][container["args"].index("--bind") + 1] == f"0.0.0.0:{ports['http']}"
    assert template()["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
    assert found["Service/shop"]["spec"]["ports"][0]["targetPort"] == "http"
    assert found["Service/shop-metrics"]["spec"]["ports"][0]["targetPort"] == "metrics"
    for monitor in MONITORS:
        spec = found[monitor]["spec"]
        assert [endpoint["port"] for endpoint in spec.get("podMetricsEndpoints") or spec["endpoints"]] == [
            "metrics"
        ]
    rules = found["NetworkPolicy/shop"]["spec"]["ingress"]
    assert [(rule["ports"][0]["port"], "from" in rule) for rule in rules] == [
        ("http", False),
        ("metrics", True),
    ]


def test_token_is_the_secret_of_pods_and_prometheus() -> None:
    found = resources()
    secret = found["Secret/shop-scrape-token"]
    pod = template()["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (volume,) = (volume for volume in pod["volumes"] if "secret" in volume)
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    environ = {item["name"]: item["value"] for item in container["env"]}
    (key,) = secret["stringData"]
    assert environ["PROM_BEARER_TOKEN_FILE"] == f"{mounts[volume['name']]}/{key}"
    for monitor in MONITORS:
        spec = found[monitor]["spec"]
        (endpoint,) = spec.get("podMetricsEndpoints") or spec["endpoints"]
        assert endpoint["authorization"]["credentials"] == {"name": secret["metadata"]["name"], "key": key}


def test_container_variables_are_settings() -> None:
    (container,) = template()["spec"]["containers"]
    names = {item["name"] for item in container["env"]}
    assert names <= {PREFIX + name.upper() for name in FIELDS}
