"""The run's state in the cluster: a journal (one ConfigMap per run), its Leases, and the snapshot it can restore from."""
