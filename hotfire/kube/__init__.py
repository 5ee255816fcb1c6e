"""The cluster: one client on raw JSON, one sleeper, waits by watch, pod grades, exec, logs, events, bundle."""
