"""Grafana dashboards as code: `python -m monitoring.grafana` writes the JSON files that Grafana imports."""
