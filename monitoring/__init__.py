"""What watches nearby: rules and their tests, dashboards, and a Prometheus for the stack on this machine."""
