"""Write the JSON of the dashboards beside this file."""

import json
from pathlib import Path
from typing import Any

from cluster.deploy.grafana.panels import DASHBOARDS, Dashboard, Panel

FOLDER = Path(__file__).resolve().parent
SCHEMA_VERSION = 39  # Grafana 10 and later
_WIDTH, _HEIGHT, _ACROSS = 12, 8, 2
_SOURCE = {"type": "prometheus", "uid": "${source}"}


def files() -> dict[Path, str]:
    """Each dashboard's file and what belongs into it."""
    return {
        FOLDER / f"{dashboard.uid}.json": json.dumps(to_json(dashboard), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """Grafana's model of a dashboard; its Prometheus and the runs shown are chosen at its top."""
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


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    row, column = divmod(number, _ACROSS)
    custom: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if panel.kind == "timeseries":
        custom = {"fillOpacity": 30 if panel.stacked else 0, "lineWidth": 2}
        custom["stacking"] = {"mode": "normal" if panel.stacked else "none"}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.kind == "heatmap":
        options = {"calculate": False, "yAxis": {"axisPlacement": "left"}}
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.about,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
                "format": "heatmap" if panel.kind == "heatmap" else "time_series",
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "options": options,
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
        print(path.name)
