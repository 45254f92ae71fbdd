"""Record and monitor runs: run directory, metric sinks, viewer, Grafana dashboards."""
