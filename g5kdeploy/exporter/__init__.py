"""The program that runs on the nodes: loads BPF objects through libbpf and serves what their maps hold to Prometheus.

It stands alone. In the source tree it is the package `g5kdeploy.exporter`; on a node the same files are
`g5kdeploy_exporter`,
so modules here import each other relatively, and otherwise need only Python >= 3.11, PyYAML, prometheus-client >=
0.16 and
libbpf.so.1.
"""

__version__ = "0.1.0"
