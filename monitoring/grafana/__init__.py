"""Grafana's dashboards as code: `python -m monitoring.grafana` writes the JSON that Grafana imports."""
