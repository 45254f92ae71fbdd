"""What a run leaves behind and how it is watched: run directory, sinks, viewer, Grafana."""
