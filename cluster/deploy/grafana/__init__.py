"""Grafana's dashboards as code: `python -m cluster.deploy.grafana` writes the JSON that Grafana imports."""
