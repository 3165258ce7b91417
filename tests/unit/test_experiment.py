"""The experiment file: every mistake at once, with its line; nothing is taken for something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g5kdeploy.events.failure import ExitCode, InvalidUse, exit_code
from g5kdeploy.experiment import Experiment, Given, Mistakes, load
from g5kdeploy.experiment import schema as shipped
from g5kdeploy.experiment.duration import clock, seconds_of, walltime_of

GOOD = """\
apiVersion: g5kdeploy/v1
name: statx
roles:
  exporter: {nodes: 2, cluster: vm, min: 1}
  collector: {nodes: 1}
walltime: 1:30
benchmark:
  role: exporter
  command: true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "roles.nix").write_text("{ }")
    return tmp_path


def write(folder: Path, text: str | bytes, name: str = "experiment.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def mistakes(folder: Path, text: str | bytes) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        load(write(folder, text))
    assert exit_code(caught.value) is ExitCode.USAGE
    return [f"{mistake.line}: {mistake.message}" for mistake in caught.value.mistakes]


def test_a_good_file_with_its_defaults(folder: Path) -> None:
    text = GOOD.replace("command: true", 'command: "true"')
    experiment = load(write(folder, text))
    assert experiment.name == "statx"
    assert experiment.composition == folder.resolve()
    assert experiment.file == folder / "experiment.yaml"
    assert (experiment.walltime, experiment.count, experiment.queue) == (5400, 3, "default")
    assert experiment.roles["exporter"].min == 1 and experiment.roles["collector"].min is None
    assert experiment.benchmark is not None and experiment.benchmark.timeout == 600
    assert experiment.testbed is None and experiment.flavour == "local-store"
    assert experiment.test_script is None
    assert load(folder) == experiment


def test_a_path_that_is_no_text_is_refused(folder: Path) -> None:
    odd = folder / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    with pytest.raises(InvalidUse, match=r"caf\\xe9/experiment.yaml' is not in UTF-8"):
        load(odd)


def test_the_test_script_is_found_in_the_composition(folder: Path) -> None:
    write(folder, "", "test.py")
    experiment = load(write(folder, GOOD.replace("true", '"true"')))
    assert experiment.test_script == folder.resolve() / "test.py"


def test_an_experiment_cannot_be_changed(folder: Path) -> None:
    experiment = load(write(folder, GOOD.replace("true", '"true"')))
    with pytest.raises(ValueError, match="frozen"):
        experiment.name = "other"  # type: ignore[misc]


def test_all_mistakes_are_told_at_once_with_their_lines(folder: Path) -> None:
    text = """\
apiVersion: g5kdeploy/v2
name: "not a name"
testbde: lab
roles:
  exporter: {nodes: 0}
  collector:
  other: {cluster: vm}
  third: {nodes: two, nodse: 3}
walltime: -1:00:00
walltime: 5
queue: [default]
composition: nowhere
job_types: deploy
benchmark:
  role: exportre
  timeout: never
  scrape_interval: 0
exporter: 5
kernel: {params: [1, ""]}
"""
    assert mistakes(folder, text) == [
        "1: `apiVersion` must be `g5kdeploy/v1`, not `g5kdeploy/v2`",
        "2: `name` has characters that are not allowed here",
        "3: unknown key `testbde`",
        "5: `roles.exporter.nodes` must be at least 1, not 0",
        "6: role `collector` has no nodes",
        "7: role `other` has no nodes",
        "8: `roles.third.nodes` must be a whole number",
        "8: unknown key `roles.third.nodse`",
        "9: `walltime` must not be negative",
        "10: duplicate key `walltime`",
        "11: `queue` must be text",
        "12: the composition `nowhere` does not exist",
        "13: `job_types` must be a list",
        "14: `benchmark.command` is missing",
        "15: there is no role `exportre`",
        "16: `benchmark.timeout`: `never` is no duration: say seconds, H:MM:SS, or like 1h30m",
        "17: `benchmark.scrape_interval` must be more than 0, not 0",
        "18: `exporter` must be a mapping",
        "19: `kernel.params.0` must be text",
        "19: `kernel.params.1` must not be empty",
    ]


def test_flavours(folder: Path) -> None:
    good = GOOD.replace("true", '"true"')
    assert load(write(folder, f"{good}flavour: g5k-image\n")).flavour == "g5k-image"
    (unknown,) = mistakes(folder, f"{good}flavour: g5k-nfs-store\n")
    assert "`flavour` must be `local-store`, `g5k-ramdisk` or `g5k-image`, not `g5k-nfs-store`" in unknown
    (standing,) = mistakes(folder, f"{good}flavour: g5k-image\njob_types: [cosystem]\n")
    assert "`flavour: g5k-image` needs a job of type deploy" in standing


def test_what_was_meant_is_guessed(folder: Path) -> None:
    with pytest.raises(Mistakes) as caught:
        load(write(folder, GOOD.replace("walltime", "waltime").replace("true", '"true"')))
    assert str(caught.value.mistakes[0]).endswith("experiment.yaml:6: unknown key `waltime` (did you mean `walltime`?)")


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("{nodes: 1, needs: {coers: 2}}", "unknown key `roles.server.needs.coers` (did you mean `cores`?)"),
        ("{nodes: 1, <<: {min: 1}}", "`<<` merges nothing here (YAML 1.2 has no merge keys: write the keys out)"),
        ("3", "`roles.server` must be a mapping (say how many: `server: {nodes: 3}`)"),
        ("{nodes: 1, names: vm-1}", "`roles.server.names` must be a list (`[vm-1]`)"),
        ("{nodes: 1, names: ['vm-[1']}", "`vm-[1` is no set of nodes (for example vm-[1-8])"),
        ("{nodes: 3, names: ['vm-[1-2]', vm-2]}", "role `server` has 3 nodes, and names 2"),
        ("{nodes: 1, site: Rennes}", "has characters that are not allowed here (small letters, digits, `-`; the first"),
    ],
)
def test_a_mistake_in_a_role_comes_with_what_was_meant(folder: Path, role: str, said: str) -> None:
    with pytest.raises(Mistakes) as caught:
        load(write(folder, f"apiVersion: g5kdeploy/v1\nname: x\nroles:\n  server: {role}\n"))
    assert [str(mistake).partition("experiment.yaml:")[2].startswith("4: ") for mistake in caught.value.mistakes] == [
        True
    ]
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: the file is empty"),
        ("- a\n- b\n", "1: must be a mapping of keys to values, and is none"),
        ("just words", "1: must be a mapping of keys to values, and is none"),
        (b"name: caf\xe9\n", "1: not text in UTF-8"),
        (b"a: 1\n\x7fELF\x02\x01\x01\x00\xff\xfe", "2: not text in UTF-8"),
        ("a: 1\nb: \x01\n", "2: not valid YAML: unacceptable character"),
        ("a: [1,\nb: 2}\n", "2: not valid YAML: while parsing a flow sequence"),
        ("a: 1\n---\nb: 2\n", "2: not valid YAML: expected a single document"),
        ("a:\n\tb: 1\n", "2: not valid YAML: a tab, where only spaces indent"),
        ("a: *nowhere\n", "1: not valid YAML: found undefined alias"),
        ("a: &a\n  b: *a\n", "more values than an experiment file can have"),
        ("[" * 300_000, "1: not valid YAML: nested too deeply"),
        ("\n".join(f"{' ' * n}a:" for n in range(1200)), ": nested too deeply"),
        ("x" * (2 << 20), "1: larger than 1 MiB"),
    ],
)
def test_what_is_no_experiment_file_at_all(folder: Path, text: str | bytes, said: str) -> None:
    found = mistakes(folder, text)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"project: {'1' * 5000}", "no number has so many digits"),
        (f"project: 0x{'f' * 5000}", "no number has so many digits"),
        ('project: "a\\0b"', "no text has such characters"),
        ('project: "\\ud800"', "no text has such characters"),
    ],
)
def test_values_that_nothing_could_take(folder: Path, line: str, said: str) -> None:
    assert any(said in one for one in mistakes(folder, GOOD.replace("true", '"true"') + line + "\n"))


@pytest.mark.parametrize("number", [".inf", "1e400", ".nan"])
def test_what_a_node_needs_is_finite(folder: Path, number: str) -> None:
    role = f"{{nodes: 1, needs: {{memory: {number}}}}}"
    text = f"apiVersion: g5kdeploy/v1\nname: x\nroles: {{server: {role}}}\n"
    [found] = mistakes(folder, text)
    assert "`roles.server.needs.memory` must be a finite number" in found


def test_aliases_that_multiply_end(folder: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "more values" in mistakes(folder, "\n".join(lines))[-1]


def test_words_are_not_taken_for_truth_values_or_numbers(folder: Path) -> None:
    experiment = load(write(folder, GOOD.replace("true", '"true"') + "queue: no\nproject: 1e3x\n"))
    assert (experiment.queue, experiment.project) == ("no", "1e3x")


def test_tags_run_nothing(folder: Path) -> None:
    marker = folder / "made"
    text = GOOD.replace("true", '"true"') + f'project: !!python/object/apply:os.system ["touch {marker}"]\n'
    mistakes(folder, text)
    assert not marker.exists()


def test_a_file_that_is_not_there(folder: Path) -> None:
    with pytest.raises(InvalidUse, match="does not exist") as caught:
        load(folder / "nothing.yaml")
    assert "init" in caught.value.hint
    with pytest.raises(InvalidUse, match="is not a file"):
        load(Path("/dev/null"))


def test_a_fifo_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidUse, match="is not a file"):
        load(folder / "pipe")


def test_other_sources_go_before_or_stand_in(folder: Path) -> None:
    path = write(folder, GOOD.replace("true", '"true"'))
    experiment = load(
        path,
        {"walltime": Given("2h", "--walltime"), "exporter.port": Given(9000, "test")},
        {"queue": Given("testing", "config.yaml:1"), "walltime": Given("3h", "config.yaml:2")},
    )
    assert (experiment.walltime, experiment.queue, experiment.exporter.port) == (7200, "testing", 9000)


def test_a_mistake_in_a_flag_names_the_flag(folder: Path) -> None:
    path = write(folder, GOOD.replace("true", '"true"'))
    with pytest.raises(Mistakes) as caught:
        load(path, {"walltime": Given("soon", "--walltime")})
    assert [mistake.where for mistake in caught.value.mistakes] == ["--walltime"]
    assert str(caught.value).splitlines()[0] == "one mistake"  # and none in the file


def test_fewer_nodes_than_the_least(folder: Path) -> None:
    assert "4: role `exporter` has fewer nodes than its `min`" in mistakes(folder, GOOD.replace("min: 1", "min: 3"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(3600, 3600), ("1:00:00", 3600), ("1:30", 5400), ("1h", 3600), ("1h30m", 5400), ("90s", 90), ("2d", 172800),
     ("15min", 900), ("42", 42)],
)  # fmt: skip
def test_durations(text: object, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("hours", [2, "24", " 4 "])
def test_a_walltime_that_oar_would_read_as_hours(hours: object) -> None:
    with pytest.raises(ValueError, match=r"h for hours, \d+s for seconds"):
        walltime_of(hours)
    assert walltime_of("2s") == 2 and walltime_of(120) == walltime_of("120") == 120


@pytest.mark.parametrize("text", [0, -5, "", "soon", "-1:00:00", "1:99", True, None, 1.5, "0s", "99999h", "1:00:00:00"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        seconds_of(text)


@given(st.integers(min_value=1, max_value=364 * 86400))
def test_durations_survive_being_written(seconds: int) -> None:
    assert seconds_of(clock(seconds)) == seconds


@given(st.binary(max_size=300))
def test_no_bytes_bring_it_down(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), data, f"random-{os.getpid()}.yaml")
    with pytest.raises(InvalidUse):
        load(path)


def test_a_name_that_no_node_can_have_is_told_with_its_line(folder: Path) -> None:
    text = """\
apiVersion: g5kdeploy/v1
name: statx
roles:
  server:
    nodes: 1
    names:
      - vm-1
      - vm_2
  client: {nodes: 1, cluster: "Vm'"}
exclude_nodes: ["vm-[1-2]", "VM-3"]
"""
    assert mistakes(folder, text) == [
        "8: `vm_2` can be no node's name",
        "9: `roles.client.cluster` has characters that are not allowed here",
        "10: `VM-3` can be no node's name",
    ]


def test_paths_that_cannot_be(folder: Path) -> None:
    long = "x" * 300
    text = f"""\
apiVersion: g5kdeploy/v1
name: statx
environment: {long}.yaml
composition: {long}/{long}
roles: {{server: {{nodes: 1}}}}
"""
    with pytest.raises(Mistakes) as caught:
        load(write(folder, text))
    assert [(mistake.line, mistake.hint.partition(":")[0]) for mistake in caught.value.mistakes] == [
        (3, "File name too long"),
        (4, "File name too long"),
    ]
    for path in (folder / long, Path(f"{folder}/{'long/' * 1000}x.yaml")):
        with pytest.raises(InvalidUse, match="cannot be read: File name too long"):
            load(path)
    with pytest.raises(InvalidUse):
        load(folder / "a\0b")


def test_the_shipped_schema_is_the_models() -> None:
    assert shipped.FILE.read_text() == shipped.text(), "write it anew: python -m g5kdeploy.experiment.schema"


def test_the_schema_says_what_the_loader_says(folder: Path) -> None:
    import jsonschema

    schema = shipped.schema()
    good = {"apiVersion": "g5kdeploy/v1", "name": "a", "roles": {"x": {"nodes": 1}}, "walltime": "1:00:00"}
    jsonschema.validate(good, schema)
    for bad in (
        {**good, "rolse": 1},
        {**good, "walltime": "soon"},
        {**good, "roles": {"x": {"nodes": 0}}},
        {"name": "a"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_every_key_has_a_description() -> None:
    schema = Experiment.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for name, value in part["properties"].items():
            assert value.get("description") or "$ref" in value or "allOf" in value, name


def test_the_projects_own_experiment_is_valid() -> None:
    root = Path(__file__).parents[2]
    experiment = load(root / "composition" / "statx")
    assert set(experiment.roles) >= {"exporter"}
    assert experiment.test_script is not None
