from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from g5kdeploy.exporter.config import Config, read_config
from g5kdeploy.exporter.document import Mistakes
from g5kdeploy.exporter.load_settings import read_load_settings

GOOD = """\
metrics:
  counters:
    - name: calls_total
      help: Calls
      labels:
        - name: device
          size: 4
          padding: 4
          decoders:
            - name: uint
            - name: static_map
              allow_unknown: true
              static_map:
                0: zero
                0x10: sixteen
                yes: affirmed
  histograms:
    - name: latency_seconds
      help: Latency
      bucket_type: exp2
      bucket_min: 2
      bucket_max: 5
      bucket_multiplier: 1e-9
      labels:
        - name: bucket
          size: 8
          decoders:
            - name: uint
kaddrs:
  - jiffies
"""


def read(folder: Path, text: str | bytes) -> tuple[Config | None, list[str]]:
    file = folder / "x.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    mistakes = Mistakes()
    config = read_config(folder, "x", mistakes)
    return config, [entry.removeprefix(f"{file}:") for entry in mistakes.found]


def test_a_configuration_is_read_as_ebpf_exporter_reads_it(tmp_path: Path) -> None:
    config, mistakes = read(tmp_path, GOOD)
    assert mistakes == []
    assert config is not None
    counter, histogram = config.counters[0], config.histograms[0]
    label = counter.labels[0]
    assert (counter.name, counter.help, label.size, label.padding) == ("calls_total", "Calls", 4, 4)
    assert label.decoders[1].static_map == {"0": "zero", "0x10": "sixteen", "yes": "affirmed"}
    assert label.decoders[1].allow_unknown
    assert histogram.keys == (2, 3, 4, 5) and histogram.sum_key == 6
    assert histogram.bounds() == [4e-9, 8e-9, 16e-9, 32e-9]
    assert config.kaddrs == ("jiffies",)
    assert config.object == tmp_path / "x.bpf.o"


@pytest.mark.parametrize(
    ("kind", "extra", "bounds"),
    [
        ("exp2", "bucket_min: 0, bucket_max: 3", [1, 2, 4, 8]),
        ("exp2zero", "bucket_min: 0, bucket_max: 3", [0, 1, 2, 4]),
        ("linear", "bucket_min: 0, bucket_max: 3, bucket_multiplier: 10", [0, 10, 20, 30]),
        ("fixed", "bucket_keys: [1, 5, 100], bucket_multiplier: 2", [2, 10, 200]),
    ],
)
def test_bounds_of_each_bucket_type(tmp_path: Path, kind: str, extra: str, bounds: list[float]) -> None:
    label = "{name: bucket, size: 8, decoders: [{name: uint}]}"
    text = f"metrics: {{histograms: [{{name: h, help: H, bucket_type: {kind}, {extra}, labels: [{label}]}}]}}"
    config, mistakes = read(tmp_path, text)
    assert mistakes == []
    assert config is not None and config.histograms[0].bounds() == bounds


BAD = """\
metrics:
  counters:
    - name: 1calls
      help: Calls
      colour: red
    - name: twice
      help: A
      help: B
      labels:
        - name: a
          size: 0
          decoders: []
        - name: a
          size: three
          decoders:
            - name: untie
    - help: no name
  gauges: []
  histograms:
    - name: h
      help: H
      bucket_type: exp3
      bucket_min: 5
      bucket_max: 5
      labels:
        - name: bucket
          size: 3
          decoders:
            - name: uint
            - name: static_map
tracing:
  spans: []
"""


def test_all_mistakes_are_reported_at_once_each_with_its_line(tmp_path: Path) -> None:
    _, mistakes = read(tmp_path, BAD)
    lines = {int(entry.split(":")[0]) for entry in mistakes}
    assert lines == {3, 5, 8, 11, 12, 13, 14, 16, 17, 18, 22, 24, 26, 29, 30, 32}, mistakes
    text = "\n".join(mistakes)
    for words in (
        "'1calls' cannot be the name of a metric",
        "unknown key colour",
        "help stands twice",
        "size must be 1 to 65536",
        "size must be an integer",
        "unknown decoder untie",
        "a counter lacks name",
        "unknown key gauges",
        "unknown bucket_type exp3",
        "bucket_max must be greater",
        "last label of a histogram is its bucket",
        "uint takes 1, 2, 4 or 8 bytes, not 3",
        "lacks static_map",
        "tracing spans are not supported",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"- a\n- b\n", "must be a mapping"),
        (b"metrics: [\n", "this is no YAML"),
        (b"metrics: {}\n\tx: 1\n", "this is no YAML"),
        (b"\x7fELF\x02\x01\xff\xfe\x00", "no text in UTF-8"),
        (b"a: \x00b", "this is no YAML"),
        (b"kaddrs: []\n", "no metrics are defined"),
        (b"metrics: &m\n  counters: [*m]\n", "nested deeper"),
        (b"a: " + b"[" * 500, "this is no YAML"),
        (b"a: " + b"[" * 100 + b"]" * 100, "nested deeper"),
    ],
)
def test_what_is_no_configuration_is_said_to_be_none(tmp_path: Path, text: bytes, words: str) -> None:
    _, mistakes = read(tmp_path, text)
    assert words in "\n".join(mistakes)


def test_a_document_that_grows_by_aliases_ends(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    _, mistakes = read(tmp_path, "\n".join(lines))
    assert "grows without end" in mistakes[0]


def test_a_missing_file_is_one_mistake(tmp_path: Path) -> None:
    mistakes = Mistakes()
    assert read_config(tmp_path, "absent", mistakes) is None
    assert mistakes.found == [f"{tmp_path / 'absent.yaml'}:1: cannot be read: No such file or directory"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_text_makes_the_reader_fail(tmp_path: Path, data: st.DataObject) -> None:
    """Lines of a good file, dropped, doubled, cut and mixed: mistakes or none, never an exception."""
    lines = GOOD.splitlines()
    mixed = data.draw(st.lists(st.sampled_from(lines) | st.text(max_size=20), max_size=30))
    keep = data.draw(st.integers(0, len(lines)))
    read(tmp_path, "\n".join(lines[:keep] + mixed).encode("utf-8", "replace"))


def test_load_settings(tmp_path: Path) -> None:
    (tmp_path / "x.load.yaml").write_text(
        "alternatives:\n  - {name: a, mode: fast}\n  - {name: b, mode: slow}\nmode_metric: x_mode\n"
        "values: {path: /tmp/x, number: 0x10, text: '12'}\nfilter: {cgroup: /sys/fs/cgroup/a, tgid: 7}\n"
    )
    mistakes = Mistakes()
    found = read_load_settings(tmp_path, "x", mistakes)
    assert mistakes.found == []
    assert [(a.name, a.mode) for a in found.alternatives] == [("a", "fast"), ("b", "slow")]
    assert {name: value for name, (value, _) in found.values.items()} == {"path": "/tmp/x", "number": 16, "text": "12"}
    assert (found.mode_metric, found.filter_cgroup, found.filter_tgid) == ("x_mode", "/sys/fs/cgroup/a", 7)
    assert read_load_settings(tmp_path, "none", mistakes).alternatives == ()


def test_mistakes_in_load_settings(tmp_path: Path) -> None:
    (tmp_path / "x.load.yaml").write_text(
        "alternatives:\n  - {name: a}\nmode_metric: 'a b'\nvalues: []\n"
        "filter:\n  cgroup: relative\n  tgid: 0\nmore: 1\n"
    )
    mistakes = Mistakes()
    read_load_settings(tmp_path, "x", mistakes)
    lines = {int(entry.split(":")[1]) for entry in mistakes.found}
    assert lines == {2, 3, 4, 6, 7, 8}, mistakes.found
