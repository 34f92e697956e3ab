"""Several replicas, and the Prometheus servers of docs/how-to/deploy.rst with its files as configuration."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.manifests import PROMETHEUS, recorded_names, replaced, resources
from tests.servers.exporting import Exporting, ask
from tests.servers.load import KINDS, Account, Kind, Load, agree
from tests.servers.process import DJANGO_APP, FLASK_APP, Scratch, scratch, wait_until
from tests.servers.prometheus import Prometheus

TOKEN = "open sesame"
BEARER = f"Bearer {TOKEN}"
# How a disconnect is counted depends on its moment.
STEADY = tuple(kind for kind in KINDS if not kind.leaves)
SLOW = (Kind("/slow", 200),)


class Replica(Exporting):
    """A server as examples/kubernetes/deployment.yaml has it: metrics on a port of their own, for a token."""

    def __init__(self, place: Scratch, app: str) -> None:
        environ = {"PROM_BEARER_TOKEN_FILE": str(place.folder / "token"), "PROM_PATH": ""}
        super().__init__(place, app=app, worker_class="gthread", environ=environ)

    def scrape(self) -> dict[str, Metric]:
        """Return the families of one scrape, which the application itself does not answer."""
        status, body = ask(self.metrics_port, Authorization=BEARER)
        assert status == 200, self.log()
        return {family.name: family for family in text_string_to_metric_families(body.decode())}


def folder_for(place: Scratch, name: str) -> Path:
    """Make a folder for one Prometheus, with the rules in it."""
    folder = place.folder / name
    folder.mkdir()
    for rules in ("recording.yml", "alerts.yml"):
        (folder / rules).write_bytes((PROMETHEUS / rules).read_bytes())
    return folder


def example(name: str, *changes: tuple[str, str]) -> str:
    """Return one of the example files, with its invented names replaced by real ones."""
    return replaced((PROMETHEUS / name).read_text("utf-8"), *changes)


def as_found(pod: dict[str, Any], name: str, ports: dict[str, int], **changes: str) -> list[dict[str, Any]]:
    """Return the targets that Prometheus's pod role makes of a pod: one for each port of its containers.

    As https://prometheus.io/docs/prometheus/latest/configuration/configuration/#pod has it.
    """
    metadata = pod["metadata"]
    labels = {
        "__meta_kubernetes_namespace": "default",
        "__meta_kubernetes_pod_name": name,
        "__meta_kubernetes_pod_phase": "Running",
        "__meta_kubernetes_pod_ip": "127.0.0.1",
    }
    for kind in ("label", "annotation"):
        for key, value in metadata.get(f"{kind}s", {}).items():
            labels[f"__meta_kubernetes_pod_{kind}_{re.sub(r'[^a-zA-Z0-9_]', '_', key)}"] = value
    port = metadata["annotations"]["prometheus.io/port"]
    labels["__meta_kubernetes_pod_annotation_prometheus_io_port"] = str(ports[port])
    labels |= {f"__meta_kubernetes_pod_{key}": value for key, value in changes.items()}
    found = []
    for container in pod["spec"]["containers"]:
        for opened in container["ports"]:
            number = str(ports.get(str(opened["containerPort"]), 1))
            of_port = {
                "__meta_kubernetes_pod_container_name": container["name"],
                "__meta_kubernetes_pod_container_port_name": opened["name"],
                "__meta_kubernetes_pod_container_port_number": number,
            }
            found.append({"targets": [f"127.0.0.1:{number}"], "labels": labels | of_port})
    return found


class Fleet:
    """Three replicas, the Prometheus that scrapes them, one that federates, and one that is written to.

    Attributes:
        replicas: Each by its target.
        main, federating, store: The three of them.
        annotated: One more, which finds the replicas by annotations of pods.
        before, after: Each replica's account at Prometheus's first look, and in the end.
        began: The time of that look.
    """

    def __init__(self, stack: ExitStack) -> None:
        place = self.place = stack.enter_context(scratch())
        self.token = place.folder / "token"
        self.token.write_text(TOKEN)
        started = [stack.enter_context(Replica(place, app)) for app in (FLASK_APP, FLASK_APP, DJANGO_APP)]
        self.replicas = {f"127.0.0.1:{replica.metrics_port}": replica for replica in started}
        # rate() ignores the first value of a counter: every series has to exist before the load.
        for replica in started:
            with Load(replica, 100, kinds=STEADY):
                pass
        self.before = {target: agree(replica) for target, replica in self.replicas.items()}
        self.store = stack.enter_context(
            Prometheus(folder_for(place, "store"), "{}\n", "--web.enable-remote-write-receiver")
        )
        self.main = stack.enter_context(Prometheus(folder_for(place, "main"), self._configuration()))
        self.federating = stack.enter_context(Prometheus(folder_for(place, "federating"), self._federation()))
        self.annotated = stack.enter_context(
            Prometheus(folder_for(place, "annotated"), self._annotations(place.folder / "annotated"))
        )
        self.main.wait_for_scrapes(["shop"], 2)
        self.began = time.time()
        for _ in range(3):
            # The first two mostly answer at once, the third is slow.
            for replica, kinds, requests in zip(started, (STEADY, STEADY, SLOW), (100, 50, 20), strict=True):
                with Load(replica, requests, kinds=kinds):
                    pass
            self.main.wait_for_scrapes(["shop"], 1)
        self.after = {target: agree(replica) for target, replica in self.replicas.items()}
        assert {target: account.keys() for target, account in self.after.items()} == {
            target: account.keys() for target, account in self.before.items()
        }
        self.main.wait_for_scrapes(["shop"], 2)
        # The order of the tests is random, and all query one moment: by then each rule used the last scrape,
        # and all older samples have arrived in the other servers.
        self._wait_for_rules(self.main)
        moment = time.time()
        for prometheus in (self.main, self.federating, self.store):
            self._wait_for_rules(prometheus)
            prometheus.at = moment

    def _wait_for_rules(self, prometheus: Prometheus) -> None:
        begun = time.time()

        def are_newer() -> bool:
            return all(recorded_at(prometheus, name) > begun for name in recorded_names())

        wait_until(are_newer, "all recorded series", shown=prometheus.log)

    def _configuration(self) -> str:
        targets = [
            (f"shop-{number}.internal:9464", target) for number, target in enumerate(self.replicas, start=1)
        ]
        scraping = example(
            "prometheus.yml",
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("evaluation_interval: 15s", "evaluation_interval: 1s"),
            ("/run/secrets/scrape-token", str(self.token)),
            *targets,
        )
        return scraping + example(
            "remote_write.yml",
            ("https://metrics.internal", f"http://127.0.0.1:{self.store.port}"),
            ("/run/secrets/remote-write-token", str(self.token)),
        )

    def _federation(self) -> str:
        return example(
            "federation.yml",
            ("scrape_interval: 30s", "scrape_interval: 1s"),
            ("prometheus-eu.internal:9090", f"127.0.0.1:{self.main.port}"),
            ("          - prometheus-us.internal:9090\n", ""),
        )

    def _annotations(self, folder: Path) -> str:
        pod = resources()["Deployment/shop"]["spec"]["template"]
        found = []
        for number, target in enumerate(self.replicas):
            found += as_found(pod, f"shop-{number}", {"9464": int(target.rpartition(":")[2])})
        found += as_found(pod, "another", {"9464": 1}, annotation_prometheus_io_scrape="false")
        found += as_found(pod, "ended", {"9464": 1}, phase="Succeeded")
        (folder / "pods.json").write_text(json.dumps(found))
        return example(
            "kubernetes.yml",
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("/run/secrets/scrape-token", str(self.token)),
            (
                "    kubernetes_sd_configs:\n      - role: pod\n",
                "    file_sd_configs:\n      - files: [pods.json]\n",
            ),
        )

    def sent(self) -> Account:
        """Return what was sent to all replicas while Prometheus watched."""
        total: Account = Counter()
        for target, account in self.after.items():
            total += account - self.before[target]
        return total

    def bounds_of(self, count: float) -> tuple[float, float]:
        """Return the range of increase() for a count: it extrapolates by up to 1.1 intervals at each end."""
        seen = self.main.scrapes("shop") - 1
        return count * 0.99, count * (seen + 2.2) / seen


def recorded_at(prometheus: Prometheus, name: str) -> float:
    """Return when a recorded series was last evaluated, as a Prometheus knows it; 0 for never."""
    return prometheus.number(f"max(timestamp({name}))")
