"""Real Kubernetes on one machine without Docker (facts: stand.md).

Control plane on the host, bound to the stand's bridge; each node a set of network, mount and PID namespaces, so that
killing its init is a power-off and no mount or iptables rule ever reaches the host. `lifecycle` has up, down and status.
"""
