"""Health of the installation, for probes and Prometheus."""
