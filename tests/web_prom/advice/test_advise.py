"""Each verdict: when it is given, when not, and what it says."""

from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry

import web_prom
from web_prom.advice.advise import CHECKS, advise
from web_prom.advice.verdict import Severity, Verdict

WINDOW = 30.0


def served(count: float, seconds: float) -> str:
    return f"http_request_duration_seconds_count {count}\nhttp_request_duration_seconds_sum {seconds}\n"


def names(before: str, after: str) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in advise(after, before, seconds=WINDOW)}


def capacity(*workers: int) -> str:
    return "".join(
        f'http_server_worker_capacity{{worker="{worker}"}} {count}\n' for worker, count in enumerate(workers)
    )


def test_advise_is_public() -> None:
    assert web_prom.advise is advise


def test_advise_says_that_nothing_is_wrong() -> None:
    (verdict,) = advise("")
    assert (verdict.name, verdict.severity) == ("healthy", Severity.OK)


def test_advise_takes_a_registry() -> None:
    assert [verdict.name for verdict in advise(CollectorRegistry().collect())] == ["healthy"]


@pytest.mark.parametrize(
    ("busy", "name", "severity"),
    [
        (3.9, "workers_full", Severity.CRITICAL),
        (3.0, "workers_full", Severity.WARNING),
        (2.0, "workers", Severity.OK),
        (0.2, "workers_idle", Severity.INFO),
    ],
)
def test_workers_are_full_or_idle(busy: float, name: str, severity: Severity) -> None:
    after = served(100, busy * WINDOW) + capacity(2, 2)
    verdict = names(served(0, 0) + capacity(2, 2), after)[name]
    assert verdict.severity == severity
    assert verdict.numbers["utilisation"] == pytest.approx(busy / 4, rel=0.01)
    assert f"{busy:.2f} of 4 places" in verdict.summary


@pytest.mark.parametrize(
    ("cpu", "word"), [(0.05, "add threads"), (0.5, "two threads each"), (0.95, "add worker processes, up to")]
)
def test_workers_are_told_whether_threads_help(cpu: float, word: str) -> None:
    before = served(0, 0) + capacity(1) + "process_cpu_seconds_total 5\n"
    after = served(60, WINDOW) + capacity(1) + f"process_cpu_seconds_total {5 + cpu * WINDOW}\n"
    verdict = names(before, after)["workers_full"]
    assert word in verdict.remedy
    assert verdict.numbers["cpu_share"] == pytest.approx(cpu, rel=0.01)


def test_workers_whose_interpreters_are_full_need_processes() -> None:
    """Four threads of one process compute: its core is full, and two of its four places are free."""
    before = served(0, 0) + capacity(4) + "process_cpu_seconds_total 5\n"
    after = served(40 * WINDOW, 2 * WINDOW) + capacity(4) + f"process_cpu_seconds_total {5 + 0.8 * WINDOW}\n"
    verdict = names(before, after)["workers_full"]
    assert verdict.severity == Severity.WARNING
    assert "2.00 of 4 places for requests are in use (50%), and each worker process uses 80% of a core" in (
        verdict.summary
    )
    assert "Threads do not help. Estimate (Erlang C, 40 requests/s of 0.02 s): at least 2 more worker" in (
        verdict.remedy
    )
    assert verdict.numbers["core_share"] == pytest.approx(0.8, rel=0.01)
    assert verdict.numbers["more_processes_estimate"] == 2
    assert "more_needed_estimate" not in verdict.numbers


def test_workers_whose_threads_wait_for_the_interpreter_need_processes() -> None:
    """All places are in use, and CPU is a fifth of the time: the rest is the wait for the interpreter."""
    before = served(0, 0) + capacity(4) + "process_cpu_seconds_total 5\n"
    after = served(40 * WINDOW, 4 * WINDOW) + capacity(4) + f"process_cpu_seconds_total {5 + 0.8 * WINDOW}\n"
    remedy = names(before, after)["workers_full"].remedy
    assert "add worker processes" in remedy
    assert "add threads" not in remedy


def test_workers_get_an_estimate_of_how_many_more() -> None:
    """One worker is full with 2 requests a second of 0.5 s: three keep the wait below a tenth of that."""
    verdict = names(served(0, 0) + capacity(1), served(60, 30) + capacity(1))["workers_full"]
    assert verdict.numbers["more_needed_estimate"] == 2
    assert "Estimate (Erlang C" in verdict.remedy


def test_workers_estimate_counts_what_piles_up() -> None:
    queue = 'http_server_backlog{listener="127.0.0.1:80"} '
    before = served(0, 0) + capacity(1) + f"{queue}0\n"
    verdict = names(before, served(60, 30) + capacity(1) + f"{queue}60\n")["workers_full"]
    assert verdict.numbers["more_needed_estimate"] > 2


def test_workers_of_unknown_capacity_get_the_way_to_set_it() -> None:
    verdict = names(served(0, 0), served(10, 5))["capacity_unknown"]
    assert verdict.severity == Severity.INFO
    assert "PROM_WORKER_CAPACITY" in verdict.remedy


def test_workers_without_requests_get_no_verdict() -> None:
    assert list(names(served(5, 5) + capacity(1), served(5, 5) + capacity(1))) == ["healthy"]


def queue_of(seconds: float, count: int) -> str:
    bounds = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
    lines = [
        f'http_request_queue_seconds_bucket{{le="{each}"}} {count * (seconds <= each)}' for each in bounds
    ]
    lines += [f'http_request_queue_seconds_bucket{{le="+Inf"}} {count}']
    return "\n".join([*lines, f"http_request_queue_seconds_sum {seconds * count}", ""])


@pytest.mark.parametrize(
    ("seconds", "severity"), [(0.04, None), (0.4, Severity.WARNING), (4.0, Severity.CRITICAL)]
)
def test_queue_time_is_judged_by_its_95th_percentile(seconds: float, severity: Severity | None) -> None:
    found = names(queue_of(seconds, 0), queue_of(seconds, 100)).get("queue_time")
    assert (found and found.severity) == severity


@pytest.mark.parametrize("namespace", ["", "shop_"])
def test_queue_time_is_found_in_each_namespace(namespace: str) -> None:
    def scrape(count: int) -> str:
        return queue_of(4.0, count).replace("http_request_queue", f"{namespace}http_request_queue")

    assert names(scrape(0), scrape(100))["queue_time"].severity == Severity.CRITICAL


def backlog_of(waiting: int, limit: int) -> str:
    labels = '{listener="127.0.0.1:80"}'
    return f"http_server_backlog{labels} {waiting}\nhttp_server_backlog_limit{labels} {limit}\n"


@pytest.mark.parametrize(
    ("waiting", "severity"), [(0, None), (12, None), (13, Severity.WARNING), (64, Severity.CRITICAL)]
)
def test_backlog_is_judged_by_its_share(waiting: int, severity: Severity | None) -> None:
    found = names("", backlog_of(waiting, 128)).get("backlog")
    assert (found and found.severity) == severity
    assert not found or "127.0.0.1:80" in found.summary


def test_backlog_without_a_limit_is_not_judged() -> None:
    assert "backlog" not in names("", 'http_server_backlog{listener="x"} 1000\n')


def test_listen_overflows_are_critical_if_they_are_new() -> None:
    name = "http_server_listen_overflows_total"
    assert "listen_overflows" not in names(f"{name} 5\n", f"{name} 5\n")
    assert names(f"{name} 5\n", f"{name} 8\n")["listen_overflows"].numbers == {"refused": 3}


@pytest.mark.parametrize("family", ["asyncio_loop_lag_seconds", "gevent_hub_lag_seconds"])
def test_event_loop_is_blocked(family: str) -> None:
    def lags(late: int) -> str:
        return (
            f'{family}_bucket{{le="0.05"}} {late * 90}\n{family}_bucket{{le="0.5"}} {late * 100}\n'
            f'{family}_bucket{{le="+Inf"}} {late * 100}\n'
        )

    assert names(lags(0), lags(1))["loop_blocked"].severity == Severity.WARNING
    assert "loop_blocked" not in names(lags(1), lags(1))


def test_threads_are_exhausted_while_calls_wait() -> None:
    tokens = 'anyio_threadpool_tokens{state="used"} 40\nanyio_threadpool_tokens{state="free"} 0\n'
    verdict = names("", tokens + "anyio_threadpool_tasks_waiting 7\n")["threads_exhausted"]
    assert "7 calls wait for one of 40 threads" in verdict.summary
    assert "threads_exhausted" not in names("", tokens + "anyio_threadpool_tasks_waiting 0\n")


def process(worker: int, started: float, memory: float = 1e8) -> str:
    label = f'{{worker="{worker}"}}'
    return f"process_start_time_seconds{label} {started}\nprocess_resident_memory_bytes{label} {memory}\n"


def test_memory_of_a_worker_grows() -> None:
    before = process(0, 5) + process(1, 5)
    after = process(0, 5) + process(1, 5, 1.2e8)
    assert names(before, after)["memory_growing"].summary.startswith("Worker 1 grew by 19 MiB in 30 s")


def test_memory_of_a_successor_is_not_growth() -> None:
    assert "memory_growing" not in names(process(0, 5), process(0, 6, 5e8))


@pytest.mark.parametrize("grown", [9 * 2**20, 11 * 2**20])
def test_memory_that_grows_little_is_no_verdict(grown: int) -> None:
    assert "memory_growing" not in names(process(0, 5, 1e9), process(0, 5, 1e9 + grown))


def test_restarts_of_half_of_the_workers_are_a_warning() -> None:
    import time

    just_now = time.time() - 1
    verdict = names(process(0, 5) + process(1, 5), process(0, 5) + process(1, just_now))["restarts"]
    assert verdict.numbers == {"restarted": 1, "workers": 2}
    four = "".join(process(worker, 5) for worker in range(3))
    assert "restarts" not in names(four + process(3, 5), four + process(3, just_now))


def test_values_that_are_not_shared_are_critical() -> None:
    """Both processes were there before the first scrape: neither is a successor of the other."""
    verdict = names("process_start_time_seconds 100\n", "process_start_time_seconds 101\n")[
        "values_not_shared"
    ]
    assert verdict.severity == Severity.CRITICAL


def test_values_of_a_process_that_restarted_are_no_verdict() -> None:
    import time

    after = f"process_start_time_seconds {time.time()}\n"
    assert list(names("process_start_time_seconds 100\n", after)) == ["healthy"]
    assert list(names("process_start_time_seconds 100\n", "process_start_time_seconds 100\n")) == ["healthy"]


@pytest.mark.parametrize(
    ("text", "name", "severity"),
    [
        ('web_prom_label_overflow_total{family="a"} 3\n', "label_overflow", Severity.WARNING),
        ("web_prom_scrape_duration_seconds 2\n", "slow_scrape", Severity.WARNING),
        ("web_prom_scrape_duration_seconds 9\n", "slow_scrape", Severity.CRITICAL),
        ("web_prom_files 100\nweb_prom_workers 4\n", "files_pile_up", Severity.WARNING),
        ("web_prom_damaged_files 1\n", "corrupt_files", Severity.WARNING),
        ("web_prom_storage_errors_total 1\n", "storage_errors", Severity.CRITICAL),
        (
            'web_prom_instrumentation_errors_total{stage="queue"} 1\n',
            "instrumentation_errors",
            Severity.WARNING,
        ),
    ],
)
def test_exporter_is_judged(text: str, name: str, severity: Severity) -> None:
    verdict = names("", text)[name]
    assert verdict.severity == severity
    assert verdict.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('web_prom_label_overflow_total{family="a"} 1\n', "counts 1 observation under"),
        ("web_prom_files 100\nweb_prom_workers 1\n", "100 value files are in the directory of 1 worker."),
        ("web_prom_damaged_files 1\n", "1 value file cannot"),
        ("web_prom_storage_errors_total 1\n", "1 time values"),
        ('web_prom_instrumentation_errors_total{stage="x"} 1\n', "failed 1 time at"),
        ("http_server_listen_overflows_total 1\n", "refused 1 connection in"),
        ('django_migrations_unapplied{db_namespace="x"} 1\n', "lacks 1 migration of"),
        ("anyio_threadpool_tasks_waiting 1\n", "1 call waits for one of 0 threads"),
        (
            served(60, WINDOW) + capacity(1),
            "1.00 of 1 place for requests is in use (100%)",
        ),
    ],
)
def test_verdicts_say_one_in_the_singular(text: str, words: str) -> None:
    before = text.replace(" 1\n", " 0\n").replace(" 60\n", " 0\n").replace(f" {WINDOW}\n", " 0\n")
    assert any(words in verdict.summary for verdict in advise(text, before, seconds=WINDOW))


@pytest.mark.parametrize(
    "text",
    [
        'web_prom_label_overflow_total{family="a"} 0\n',
        "web_prom_scrape_duration_seconds 0.02\n",
        "web_prom_files 20\nweb_prom_workers 4\n",
        "web_prom_damaged_files 0\n",
        "web_prom_storage_errors_total 0\n",
        'web_prom_instrumentation_errors_total{stage="queue"} 0\n',
    ],
)
def test_exporter_that_is_well_gets_no_verdict(text: str) -> None:
    assert list(names("", text)) == ["healthy"]


def test_advise_gives_the_worst_first() -> None:
    text = "web_prom_scrape_duration_seconds 9\nweb_prom_damaged_files 1\n" + served(9, 9)
    severities = [verdict.severity for verdict in advise(text, served(0, 0))]
    assert severities == sorted(severities, reverse=True)
    assert len(set(severities)) == 3


def test_verdicts_can_be_written_as_json() -> None:
    (verdict,) = [each for each in advise("web_prom_damaged_files 2\n") if each.name == "corrupt_files"]
    assert json.loads(json.dumps(verdict.as_json())) == {
        "name": "corrupt_files",
        "severity": "warning",
        "summary": verdict.summary,
        "remedy": verdict.remedy,
        "numbers": {"files": 2.0},
    }


def test_every_check_is_silent_without_metrics() -> None:
    assert len(CHECKS) == 14
    assert [verdict.name for verdict in advise("", "")] == ["healthy"]
