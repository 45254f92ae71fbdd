"""Write the dashboards as JSON files into this folder."""

import json
from pathlib import Path
from typing import Any

from monitoring.grafana.panels import DASHBOARDS, Dashboard, Event, Panel, Query

FOLDER = Path(__file__).resolve().parent
SCHEMA_VERSION = 39  # Grafana 10 and later
_WIDTH, _HEIGHT, _ACROSS = 12, 8, 2
_SOURCE = {"type": "prometheus", "uid": "${source}"}


def files() -> dict[Path, str]:
    """Map the path of each dashboard's file to its content."""
    return {
        FOLDER / f"{dashboard.uid}.json": json.dumps(to_json(dashboard), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """Convert a dashboard to Grafana's JSON model. Its menus select the Prometheus server and the runs."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["vqathinker"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source_variable(), _run_variable()]},
        "annotations": {"list": [_annotation(event) for event in dashboard.events]},
        "panels": [_panel(panel, number) for number, panel in enumerate(dashboard.panels)],
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _run_variable() -> dict[str, Any]:
    return {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": "label_values(ray_vqathinker_reward_total, run)", "refId": "runs"},
        "refresh": 2,  # when the time range changes
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _annotation(event: Event) -> dict[str, Any]:
    return {
        "name": event.name,
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": event.expression,
        "step": "10s",
        "titleFormat": event.name,
        "textFormat": event.text,
        "useValueForTime": True,
    }


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    row, column = divmod(number, _ACROSS)
    custom: dict[str, Any] = {}
    options: dict[str, Any] = {}
    defaults: dict[str, Any] = {"unit": panel.unit, "custom": custom}
    if panel.kind == "timeseries":
        custom = {"fillOpacity": 30 if panel.stacked else 0, "lineWidth": 2}
        custom["stacking"] = {"mode": "normal" if panel.stacked else "none"}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.kind == "heatmap":
        options = {"calculate": False, "yAxis": {"axisPlacement": "left"}}
    if panel.states:
        states = {str(v): {"text": text, "color": color} for v, (text, color) in panel.states.items()}
        defaults["mappings"] = [{"type": "value", "options": states}]
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.about,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "targets": [_target(panel, query, chr(ord("A") + i)) for i, query in enumerate(panel.queries)],
        "transformations": _transformations(panel),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def _target(panel: Panel, query: Query, letter: str) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "format": {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series"),
        "instant": panel.kind == "table",
        "range": panel.kind != "table",
    }


def _transformations(panel: Panel) -> list[dict[str, Any]]:
    """The transformations of a table panel: drop the column of query times, and title the values' column with
    the query's legend."""
    if panel.kind != "table":
        return []
    (query,) = panel.queries
    options = {"excludeByName": {"Time": True}, "renameByName": {"Value": query.legend}}
    return [{"id": "organize", "options": options}]


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
        print(path.name)
