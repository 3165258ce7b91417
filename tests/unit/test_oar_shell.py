"""The scheduler's commands as a frontend has them: options, lists of jobs and resources, walltimes, endings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g5kdeploy.lab.oar import Oar, Refused, Resource
from g5kdeploy.lab.oar.options import BadOption, read
from g5kdeploy.lab.oar.shell import Shell
from tests.contract.oar_player import FakeTime


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def oar(tmp_path: Path, time: FakeTime) -> Oar:
    resources = [Resource(number, "default", f"a-{number}.lab", {"host": f"a-{number}.lab"}) for number in (1, 2)]
    return Oar(tmp_path / "oar.sqlite", resources, time.clock())


@pytest.fixture
def shell(oar: Oar, time: FakeTime) -> Shell:
    return Shell(oar, lambda: time.now)


def test_options_are_read_as_perl_reads_them() -> None:
    specs = "resource|l=s full|f state|s job|j:i user|u:s type|t=s checkpoint=i"
    given = read(["-fj37", "-l", "nodes=1", "-lcore=2", "sleep 1", "--type=deploy", "-u", "--ch", "5"], specs)
    assert given.values == {
        "full": [None],
        "job": ["37"],
        "resource": ["nodes=1", "core=2"],
        "type": ["deploy"],
        "user": [None],
        "checkpoint": ["5"],
    }
    assert given.rest == ["sleep 1"]
    assert read(["-j", "-s", "--", "-x"], specs).values == {"job": [None], "state": [None]}
    assert read(["-j", "word"], specs).rest == ["word"]
    assert read(["3", "-0:30"], "force", passing=True).rest == ["3", "-0:30"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-x"], "Unknown option: x\n"),
        (["--nosuch"], "Unknown option: nosuch\n"),
        (["-l"], "Option resource requires an argument\n"),
        (["--full=1"], "Option full does not take an argument\n"),
        (["--checkpoint", "x"], 'Value "x" invalid for option checkpoint (number expected)\n'),
        (["--f"], "Option f is ambiguous (file, full)\n"),
    ],
)
def test_what_is_said_of_options_that_are_wrong(words: list[str], said: str) -> None:
    with pytest.raises(BadOption) as bad:
        read(words, "resource|l=s full file=s checkpoint=i")
    assert str(bad.value) == said


def test_a_job_from_its_submission_to_its_end(shell: Shell, oar: Oar, time: FakeTime) -> None:
    made = shell.run("oarsub", ["-t", "deploy", "-n", "x", "-l", "nodes=1,walltime=1", "sleep 1000"], "jdoe")
    assert (made.out, made.err, made.status) == ("OAR_JOB_ID=1\n", "", 0)
    assert shell.run("oarstat", ["-sj", "1"], "jdoe").out == "1: Waiting\n"
    time.run(oar, 75)
    heading, rule, line = shell.run("oarstat", [], "jdoe").out.splitlines()
    assert heading.split() == ["Job", "id", "S", "User", "Duration", "System", "message"] and rule.startswith("----")
    assert line.split()[:3] == ["1", "R", "jdoe"] and line.endswith(" FIFO scheduling OK") and "0:01:" in line
    assert shell.run("oarstat", ["-u"], "mtest").out == ""
    assert shell.run("oarstat", ["-u", "jdoe"], "mtest").out != ""
    full = shell.run("oarstat", ["-f", "-j", "1"], "jdoe").out
    assert "    initial_request = oarsub -t deploy -n x -l nodes=1,walltime=1 sleep 1000\n" in full
    assert "    stdout_file = OAR.x.1.stdout\n" in full and "    assigned_hostnames = a-1.lab\n" in full
    told = json.loads(shell.run("oarstat", ["-J", "-j", "1"], "jdoe").out)["1"]
    assert (told["state"], told["assigned_network_address"], told["walltime"]) == ("Running", ["a-1.lab"], 3600)
    assert " network_address = 'a-1.lab' ," in shell.run("oarstat", ["-p", "-j", "1"], "jdoe").out
    assert "Current walltime:       1:0:0\n" in shell.run("oarwalltime", ["1"], "jdoe").out
    ended = shell.run("oardel", ["1", "2", "x"], "jdoe")
    assert ended.out.splitlines() == [
        "Deleting the job = 1 ...REGISTERED.",
        "Deleting the job = 2 ...ERROR.",
        "The job(s) [ 1 ] will be deleted in the near future.",
    ]
    assert ended.err.splitlines() == [
        '[ERROR] "x" is not a valid job identifier',
        "Cannot frag 2 ; You are not the right user.",
    ]
    time.run(oar, 60)
    history = shell.run("oarstat", ["-e", "-j", "1"], "jdoe").out
    assert "> [1] FRAG_JOB_REQUEST: User jdoe requested to frag the job 1\n" in history
    assert "(job is not running)" in shell.run("oarwalltime", ["1"], "jdoe").out


def test_what_is_refused(shell: Shell) -> None:
    refused = shell.run("oarsub", ["-l", "nodes=9", "sleep 1"], "jdoe")
    assert (refused.out, refused.status) == ("# Set walltime to default (3600 s).\n", 8)
    assert refused.err.startswith("# There are not enough resources for your request\n")
    assert shell.run("oarstat", ["--sql", "x"], "jdoe").err == "oarstat: the lab's scheduler has no --sql.\n"
    assert shell.run("oarsub", ["-l", "nodes=1", "two", "words"], "jdoe").status == 5
    assert shell.run("oarsub", ["-I", "-r", "now"], "jdoe").status == 7
    assert shell.run("oarsub", ["-i", "key", "x"], "jdoe").status == 8
    assert shell.run("oarstat", ["-s"], "jdoe").status == 1
    assert shell.run("oarwalltime", ["1", "+abc"], "jdoe").status == 4
    assert shell.run("oardel", [], "jdoe").status == 1


def test_numbers_that_no_job_can_have(shell: Shell) -> None:
    huge = "9" * 30
    assert shell.run("oarstat", ["-fj", huge], "jdoe").out == ""
    assert shell.run("oardel", [huge], "jdoe").err == f"Cannot frag {huge} ; You are not the right user.\n"
    assert shell.run("oarwalltime", [huge, "+1"], "jdoe").status == 4
    assert shell.run("oarsub", ["-C", huge], "jdoe").status == 20


def test_a_directory_is_the_jobs_own_affair(tmp_path: Path, time: FakeTime) -> None:
    oar = Oar(tmp_path / "own.sqlite", [Resource(1, "default", "a-1.lab", {"host": "a-1.lab"})], time.clock(),
              directories=lambda user, path: "No such file or directory")  # fmt: skip
    done = Shell(oar, lambda: time.now).run("oarsub", ["-d", "/none", "-l", "nodes=1", "sleep 1"], "jdoe")
    assert (
        done.status == 0
        and "launchingDirectory = /none\n" in Shell(oar, lambda: 0).run("oarstat", ["-fj1"], "jdoe").out
    )


def test_a_terminal_is_for_a_job_that_runs(shell: Shell, oar: Oar, time: FakeTime) -> None:
    assert shell.run("oarsub", ["-C"], "jdoe").out == "No running jobs\n"
    interactive = shell.run("oarsub", ["-I", "-l", "nodes=1"], "jdoe")
    assert (interactive.connect, interactive.ends) == (1, True)
    assert shell.run("oarsub", ["-C", "1"], "jdoe").status == 20
    time.run(oar, 30)
    there = shell.run("oarsub", ["-C"], "jdoe")
    assert (there.connect, there.ends, there.status) == (1, False, 0)
    shell.run("oarsub", ["-l", "nodes=1", "-n", "other", "sleep 1000"], "jdoe")
    time.run(oar, 30)
    assert shell.run("oarsub", ["-C"], "jdoe").out.endswith("Running jobs are: 2 (other), 1\n")


def test_nodes_are_listed(shell: Shell, oar: Oar) -> None:
    oar.set_state("a-2.lab", "Standby")
    assert shell.run("oarnodes", ["-s"], "jdoe").out == "a-1.lab:\n    1: Alive\na-2.lab:\n    2: Absent\n"
    assert shell.run("oarnodes", ["-l"], "jdoe").out == "a-1.lab\na-2.lab\n"
    assert "state: Absent (standby)\n" in shell.run("oarnodes", ["a-2.lab"], "jdoe").out
    assert shell.run("oarnodes", ["a-3.lab"], "jdoe").out == "/!\\ No nodes to display...\n"
    assert json.loads(shell.run("oarnodes", ["-J"], "jdoe").out)["1"]["network_address"] == "a-1.lab"


@pytest.mark.parametrize(
    ("words", "ends"), [("-c", 12), ("-s USR1", 10), ("-s SIGHUP", 1), ("-s 18", None), ("-s NOSUCH", None)]
)
def test_a_signal_goes_to_the_command(shell: Shell, oar: Oar, time: FakeTime, words: str, ends: int | None) -> None:
    name = words[3:]
    begin, how = "Checkpointing the job 1 ...", "checkpoint itself"
    kinds = ["CHECKPOINT", "CHECKPOINT_SUCCESS"]
    if name:
        begin, how = f"Signaling the job 1 with {name} signal.\n", f"signal itself with {name}"
        kinds = [f"SIGNAL_{name}", "SIG_SUCCESS"]
    shell.run("oarsub", ["-l", "nodes=1", "sleep 1000"], "jdoe")
    early = shell.run("oardel", [*words.split(), "1"], "jdoe")
    verb = "checkpoint" if words == "-c" else "signal"
    assert (early.err, early.status) == (f"Cannot {verb} 1 ; This job is not running.\n", 5)
    assert early.out.endswith("ERROR.\n")
    time.run(oar, 3)
    other = shell.run("oardel", [*words.split(), "1"], "mtest")
    assert (other.err, other.status) == (f"Cannot {verb} 1 ; You are not the right user.\n", 1)
    done = shell.run("oardel", [*words.split(), "1"], "jdoe")
    assert (done.out, done.err, done.status) == (f"{begin}DONE.\nThe job 1 was notified to {how} on a-1.lab.\n", "", 0)
    job = oar.job(1)
    assert job is not None and [event.type for event in job.events][1:3] == kinds
    time.run(oar, 6)
    job = oar.job(1)
    assert job is not None and (job.exit_code, job.state) == (ends, "Running" if ends is None else "Terminated")


def test_a_job_is_told_that_its_end_is_near(shell: Shell, oar: Oar, time: FakeTime) -> None:
    shell.run(
        "oarsub",
        ["-t", "deploy", "-l", "nodes=1,walltime=0:1", "--checkpoint", "30", "--signal", "18", "sleep 1000"],
        "jdoe",
    )
    shell.run("oarsub", ["-t", "noop", "-l", "nodes=1,walltime=0:1", "--checkpoint", "20"], "jdoe")
    time.run(oar, 80)
    for number, host in ((1, "127.0.0.1"), (2, "a-2.lab")):
        job = oar.job(number)
        assert job is not None
        told = [(event.type, event.description) for event in job.events if "CHECKPOINT" in event.type]
        assert told and told == told[:2] * (len(told) // 2), "at each look for jobs that are past their walltime"
        assert told[:2] == [
            ("CHECKPOINT", f"Checkpoint requested on {host}"),
            ("CHECKPOINT_SUCCESSFULL", f"The job {number} was notified to checkpoint itself on {host}"),
        ]


def test_options_of_oardel_that_are_not_for_users(shell: Shell) -> None:
    for option, named in (("-b", "-b"), ("--force-terminate-finishing-job", "--force-terminate-finishing-job")):
        said = shell.run("oardel", [option, "1"], "jdoe")
        assert (said.err, said.status) == (f"You must be oar or root to use the {named} option\n", 8)


def test_numbers_are_numbers_over_the_api_too(oar: Oar) -> None:
    for option in ("signal", "checkpoint", "anterior"):
        with pytest.raises(Refused) as caught:
            oar.submit("jdoe", {"resource": "nodes=1", "command": "sleep 1", option: "x"})
        expected = (500, 1, f'Value "x" invalid for option {option} (number expected)\n')
        assert (caught.value.status, caught.value.exit_code, caught.value.message) == expected


def test_running_jobs_are_held_by_masters_alone(shell: Shell, oar: Oar, time: FakeTime) -> None:
    shell.run("oarsub", ["-l", "nodes=1", "sleep 1000"], "jdoe")
    shell.run("oarsub", ["-l", "nodes=1", "-t", "deploy", "sleep 1000"], "jdoe")
    said = shell.run("oarhold", ["-r", "1", "2", "9"], "jdoe")
    assert said.err.splitlines() == [
        "/!\\ Cannot hold 1: only oar or root users can use '-r' option.",
        "This job is of the deploy type. We cannot suspend this kind of jobs.",
        "/!\\ Cannot hold 9: this job does not exist.",
    ]
    assert (said.out, said.status) == ("", 1)
    assert shell.run("oarhold", ["-r", "1"], "root").out == "[1] Hold request was sent to the OAR server.\n"
