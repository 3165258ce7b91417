"""What one would write with BCC and prometheus-client for scripts/bench/series: compiled here, read entry by entry."""

import sys
import threading

from bcc import BPF
from prometheus_client import REGISTRY, start_http_server
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

OPERATIONS = ["getattr", "setattr", "lookup", "access", "read", "write", "create", "remove"]
SOURCE = """
struct counter_key { u64 client; u32 operation; u32 pad; };
struct histogram_key { u32 client; u32 bucket; };
BPF_TABLE("hash", struct counter_key, u64, operations, 131072);
BPF_TABLE("percpu_hash", struct histogram_key, u64, latency, 131072);
BPF_ARRAY(next, u32, 2);

RAW_TRACEPOINT_PROBE(sys_enter) {
    int which = ctx->args[1] == 20261128 ? 0 : ctx->args[1] == 20261129 ? 1 : -1;
    if (which < 0)
        return 0;
    u32 *place = next.lookup(&which);
    if (!place)
        return 0;
    u32 n = (*place)++;
    if (which == 0) {
        struct counter_key key = {.client = n / 8, .operation = n % 8};
        u64 value = 1000003ULL * (n + 1);
        operations.update(&key, &value);
        return 0;
    }
    for (u32 i = 6; i <= 41; i++) {
        struct histogram_key key = {.client = n, .bucket = i};
        u64 value = 1000003ULL * i + n;
        latency.update(&key, &value);
    }
    return 0;
}
"""


class Collector:
    def __init__(self, program):
        self.program = program

    def describe(self):
        return []

    def collect(self):
        counter = CounterMetricFamily("ebpf_exporter_series_operations", "Entries", labels=["client", "operation"])
        for key, value in self.program["operations"].items():
            counter.add_metric([str(key.client), OPERATIONS[key.operation]], value.value)
        yield counter
        histograms = {}
        for key, values in self.program["latency"].items():
            histograms.setdefault(key.client, {})[key.bucket] = sum(values)
        family = HistogramMetricFamily("ebpf_exporter_series_latency_seconds", "Histograms", labels=["client"])
        for client, slots in histograms.items():
            total, buckets = 0, []
            for i in range(6, 41):
                total += slots.get(i, 0)
                buckets.append((str(2.0**i / 1e9), total))
            family.add_metric([str(client)], [*buckets, ("+Inf", total)], slots.get(41, 0) / 1e9)
        yield family


REGISTRY.register(Collector(BPF(text=SOURCE)))
start_http_server(int(sys.argv[1]), "127.0.0.1")
threading.Event().wait()
