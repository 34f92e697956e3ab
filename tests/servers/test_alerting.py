"""A real application breaks; a real Prometheus sees it by web-prom's rules, and a real Alertmanager pages."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.servers.alertmanager import Alertmanager, Webhook
from tests.servers.process import Gunicorn, Scratch, wait_until
from tests.servers.prometheus import Prometheus, scraping
from web_prom.__main__ import main

RUNBOOKS = "https://docs.example.com/runbooks/alerts.html"
JOB = "shop in the east"


def with_short_windows(rules: str) -> str:
    """Return rules whose windows and waits are seconds; what they compute stays."""
    rules, ranges = re.subn(r"\[\d+[mhd]\]", "[3s]", rules)
    rules, waits = re.subn(r"for: \d+m", "for: 500ms", rules)
    assert ranges > 20
    assert waits > 10
    return rules


@pytest.mark.once
def test_broken_application_pages(place: Scratch, capsys: pytest.CaptureFixture[str]) -> None:
    """It serves without an alert, then fails: the page names the job and the runbook, and ends afterwards."""
    assert main(["rules", "--runbooks", RUNBOOKS]) == 0
    (place.folder / "rules.yml").write_text(with_short_windows(capsys.readouterr().out))
    with (
        Webhook() as webhook,
        Alertmanager(place.folder, webhook.url) as alertmanager,
        Gunicorn(place, worker_class="gthread") as server,
    ):
        configuration = scraping({f'"{JOB}"': server}, interval="500ms").replace(
            "scrape_interval: 500ms", "scrape_interval: 500ms, evaluation_interval: 500ms"
        )
        configuration += (
            "rule_files: [rules.yml]\nalerting:\n  alertmanagers:\n"
            f"    - static_configs: [{{targets: ['127.0.0.1:{alertmanager.port}']}}]\n"
        )

        def posted(status: str) -> dict[str, Any] | None:
            """Send another request, and return the alert if it was posted."""
            answered = server.get("/error" if status == "firing" else "/")[0]
            assert answered == (500 if status == "firing" else 200)
            return next(
                (
                    alert
                    for alert in webhook.alerts
                    if (alert["labels"]["alertname"], alert["status"]) == ("ErrorBudgetBurnsFast", status)
                ),
                None,
            )

        with Prometheus(place.folder, configuration) as prometheus:
            for _ in range(5):
                assert server.get("/")[0] == 200
                prometheus.wait_for_scrapes([JOB], 1)
            # Requests may wait on a busy machine, which is another alert.
            names = {alert["labels"]["alertname"] for alert in webhook.alerts}
            assert not {name for name in names if name.startswith("ErrorBudget")}
            alert = wait_until(lambda: posted("firing"), "the page", shown=alertmanager.log)
            assert alert["labels"] == {"alertname": "ErrorBudgetBurnsFast", "job": JOB, "severity": "page"}
            assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}#errorbudgetburnsfast"
            assert re.fullmatch(
                rf"{JOB}: [\d.]+% of the requests end in a server error within 1h or 6h; "
                r"the objective allows 0\.1 %",
                alert["annotations"]["summary"],
            )
            wait_until(lambda: posted("resolved"), "the end of the alert", shown=alertmanager.log)
