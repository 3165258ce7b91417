"""Does the composition work: the same script for local virtual machines and for deployed nodes.

It is written for the NixOS test driver: `exporter` and `collector` are its machines.
"""

import json

CALLS = 20000


def samples(machine):
    """What the exporter serves: `name{labels}` to value."""
    page = machine.succeed("curl -sSf http://127.0.0.1:9435/metrics")
    found = {}
    for line in page.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


start_all()

with subtest("the exporter is up, with every program in the kernel"):
    exporter.wait_for_unit("g5kdeploy-exporter.service")
    exporter.wait_for_open_port(9435)
    now = samples(exporter)
    assert now['g5k_bpf_program_loaded{config="statx"}'] == 1, now
    assert now['g5k_bpf_program_loaded{config="statx_mock"}'] == 1, now
    assert now['g5k_bpf_mock_mode{config="statx_mock",mode="off"}'] == 0, now

with subtest("sshd and journald are the system's own"):
    exporter.succeed("systemctl is-active ssh.service || systemctl is-active sshd.service")
    exporter.wait_for_unit("systemd-journald.service")
    exporter.succeed("journalctl --no-pager -u g5kdeploy-exporter.service | grep 'programs attached'")

with subtest("the calls of one cgroup are counted exactly, while somebody else calls, too"):
    exporter.wait_for_unit("bystander.service")
    said = json.loads(
        exporter.succeed(f"systemd-run --quiet --wait --pipe --collect statx_bench --calls {CALLS} --hold 1")
    )
    assert said["calls"] == CALLS and said["failed"] == 0, said
    own = f'cgroup="{said["cgroup"]}"'
    now = samples(exporter)
    assert now[f"ebpf_exporter_statx_calls_total{{{own}}}"] == CALLS, now
    assert now[f"ebpf_exporter_statx_latency_seconds_count{{{own}}}"] == CALLS, now
    assert now[f'ebpf_exporter_statx_latency_seconds_bucket{{{own},le="+Inf"}}'] == CALLS, now
    assert now[f"ebpf_exporter_statx_latency_seconds_sum{{{own}}}"] > 0, now
    others = [name for name, value in now.items() if "calls_total" in name and "bystander" in name and value > 0]
    assert others, now
    assert all(value == 0 for name, value in now.items() if name.startswith("ebpf_exporter_statx_lost_total")), now

with subtest("statx is answered by us for one path, and for no other"):
    exporter.succeed("echo true > /tmp/override && echo true > /tmp/true")
    assert exporter.succeed("stat -c '%Y %s' /tmp/override").split() == ["0", "0"]
    epoch, size = exporter.succeed("stat -c '%Y %s' /tmp/true").split()
    assert int(epoch) > 0 and size == "5"
    now = samples(exporter)
    assert now['ebpf_exporter_statx_mock_total{event="mocked"}'] >= 1, now
    assert now['ebpf_exporter_statx_mock_total{event="write_fail"}'] == 0, now

with subtest("Prometheus scrapes the exporter"):
    collector.wait_for_unit("prometheus.service")
    collector.wait_for_open_port(9090)
    collector.wait_until_succeeds(
        "curl -sSf 'http://127.0.0.1:9090/api/v1/query?query=ebpf_exporter_statx_mock_total' | grep mocked"
    )
