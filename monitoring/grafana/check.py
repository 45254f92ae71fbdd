"""Check that every query of the committed dashboards returns data from a Prometheus server.

    python -m monitoring.grafana.check --prometheus http://127.0.0.1:9090 --minutes 15

Prints a table of the panels with the latest value of each query. Exits with status 1 if a query has no data.
"""

import argparse
import json
import math
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
STEPS = 300
ANSWER_TIMEOUT_S = 30.0

Ask = Callable[[str], list[dict[str, Any]]]
"""Runs a query and returns its time series. Each has `metric` and `values`, pairs of time and string."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one query of a panel. `last` is the newest value of the first series, or NaN."""

    dashboard: str
    panel: str
    legend: str
    series: int
    points: int
    last: float


def check(dashboards: Sequence[dict[str, Any]], variables: Mapping[str, str], ask: Ask) -> Iterator[Answer]:
    """Run each query of panels and annotations, with Grafana's `variables`, such as "$run", substituted."""
    for dashboard in dashboards:
        panels = [
            (p["title"], t["expr"], t["legendFormat"]) for p in dashboard["panels"] for t in p["targets"]
        ]
        marks = [(f"annotation {a['name']}", a["expr"], "") for a in dashboard["annotations"]["list"]]
        for title, query, legend in panels + marks:
            for name, value in variables.items():
                query = query.replace(name, value)
            series = [_numbers(found) for found in ask(query)]
            series = [values for values in series if values]
            points, last = sum(map(len, series)), series[0][-1] if series else math.nan
            yield Answer(dashboard["title"], title, legend, len(series), points, last)


def prometheus(address: str, minutes: float) -> Ask:
    """Return a function that queries the Prometheus server at `address` over the last `minutes`."""

    def ask(query: str) -> list[dict[str, Any]]:
        now, seconds = time.time(), 60 * minutes
        asked = {"query": query, "start": now - seconds, "end": now, "step": max(1.0, seconds / STEPS)}
        url = f"{address}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S) as answer:
            return json.load(answer)["data"]["result"]

    return ask


def _numbers(series: dict[str, Any]) -> list[float]:
    values = [float(text) for _, text in series["values"]]
    return [value for value in values if math.isfinite(value)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="address of the server")
    parser.add_argument("--minutes", type=float, default=15.0, help="length of the period to query")
    parser.add_argument("--run", default=".*", help="regular expression that selects runs by name")
    parser.add_argument("--rate-interval", default="1m", help="value of $__rate_interval; 4 scrapes or more")
    arguments = parser.parse_args()

    dashboards = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    ask = prometheus(arguments.prometheus, arguments.minutes)
    variables = {
        "$run": arguments.run,
        "$__rate_interval": arguments.rate_interval,
        "$__range": f"{round(60 * arguments.minutes)}s",
    }
    answers = list(check(dashboards, variables, ask))
    titles = [f"{answer.dashboard}: {answer.panel}" for answer in answers]
    width = max(len(title) for title in titles)
    print(f"{'panel':{width}}  {'query':34}  series  points  last value")
    for title, a in zip(titles, answers, strict=True):
        print(f"{title:{width}}  {a.legend:34}  {a.series:6}  {a.points:6}  {a.last:10.4g}")
    empty = [answer for answer in answers if not answer.points]
    print(f"{len(answers) - len(empty)} of {len(answers)} queries return data")
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
