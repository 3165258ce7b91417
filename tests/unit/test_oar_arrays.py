"""Jobs that come many at a time, are held, wait for others, and say in their scripts what they want."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from g5kdeploy.lab.oar import Job, Oar, Resource
from g5kdeploy.lab.oar.said import Said
from g5kdeploy.lab.oar.shell import Shell
from tests.contract.oar_player import FakeTime

SCRIPT = """\
#!/bin/sh
#OAR -l nodes=1,walltime=0:30
#OAR -n from-script
#OAR -t deploy
#OAR --project mine
sleep 100
"""


class Site:
    """A scheduler with two nodes, and the commands of a user who has some files."""

    def __init__(self, folder: Path) -> None:
        self.time = FakeTime()
        self.folder = folder
        self.files = {"job.sh": SCRIPT}
        self.open()

    def open(self) -> None:
        resources = [Resource(number, "default", f"a-{number}.lab", {"host": f"a-{number}.lab"}) for number in (1, 2)]
        self.oar = Oar(self.folder / "oar.sqlite", resources, self.time.clock())
        self.shell = Shell(self.oar, lambda: self.time.now, lambda name, _directory: self.files.get(name))

    def __call__(self, line: str, *more: str, user: str = "jdoe") -> Said:
        name, *words = line.split()
        return self.shell.run(name, [*words, *more], user)

    def run(self, seconds: float = 20) -> None:
        self.time.run(self.oar, seconds)

    def job(self, number: int) -> Job:
        found = self.oar.job(number)
        assert found is not None
        return found

    def states(self, *numbers: int) -> list[str]:
        return [self.job(number).state for number in numbers]

    def events(self, number: int) -> list[tuple[str, str]]:
        return [(one.type, one.description) for one in self.job(number).events]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.oar.stop()


def test_an_array_is_many_jobs_of_one_command(site: Site) -> None:
    first = site("oarsub -l nodes=1,walltime=1", "sleep 3000")
    made = site("oarsub --array 3 -l nodes=1,walltime=1", "sleep 1000")
    assert (made.out, made.status) == ("OAR_JOB_ID=2\nOAR_JOB_ID=3\nOAR_JOB_ID=4\nOAR_ARRAY_ID=2\n", 0)
    assert first.out == "OAR_JOB_ID=1\n"
    site.run()
    assert site.states(1, 2, 3, 4) == ["Running", "Running", "Waiting", "Waiting"]
    assert [(site.job(n).array, site.job(n).array_index) for n in (1, 2, 4)] == [(1, 1), (2, 1), (2, 3)]
    heading, _, *lines = site("oarstat --array 2").out.splitlines()
    assert heading.split()[:6] == ["Job", "id", "A.", "id", "index", "S"]
    assert [line.split()[:4] for line in lines] == [["2", "2", "1", "R"], ["3", "2", "2", "W"], ["4", "2", "3", "W"]]
    assert "    job_array_id = 2\n    job_array_index = 3\n" in site("oarstat -f -j 4").out
    assert site("oarstat -s --array 2").out == "2: Running\n3: Waiting\n4: Waiting\n"
    assert site("oarstat -j 2 --array 2").status == 1
    ended = site("oardel --array 2 9 x")
    assert ended.out.endswith("The job(s) [ 2 3 4 ] will be deleted in the near future.\n") and ended.status == 4
    assert ended.err == '[ERROR] "9" is not a valid array job\n[ERROR] "x" is not a valid job array identifier\n'
    site.run()
    assert site.states(1, 2, 3, 4) == ["Running", "Error", "Error", "Error"]


def test_the_jobs_of_an_array_have_each_a_line_of_parameters(site: Site) -> None:
    site.files["params"] = "# three\na 1\n\nb 2 # the second\n"
    made = site("oarsub --array-param-file params -l nodes=1,walltime=1 -J", "./run")
    assert [json.loads(text + "}")["job_id"] for text in made.out.split("}\n") if text] == [1, 2]
    assert [site.job(number).command for number in (1, 2)] == ["./run a 1", "./run b 2 "]


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("oarsub --array 0 x", 6, "# Error: an array job must have a positive number of sub-jobs.\n"),
        ("oarsub --array-param-file none x", 12, "[ERROR] Cannot open the parameter file none.\n"),
        ("oarsub -I --array 2", 8, "# Error: an array job cannot be interactive.\n"),
        (
            "oarsub -I --array-param-file job.sh",
            9,
            "# Error: a parameter file-based array job cannot be interactive.\n",
        ),
        ("oarsub -S ./none", 12, "[ERROR] Cannot open the file ./none.\n"),
        ("oarsub --resubmit 7", 4, "# Error: unknown error (0).\n"),
    ],
)
def test_what_cannot_be_an_array_or_a_script(site: Site, line: str, status: int, said: str) -> None:
    done = site(line)
    assert (done.status, done.err) == (status, said)


def test_a_job_is_held_and_resumed(site: Site) -> None:
    assert site("oarsub --hold -l nodes=2,walltime=1", "sleep 1000").out == "OAR_JOB_ID=1\n"
    site("oarsub -l nodes=2,walltime=1", "sleep 1000")
    site("oarsub -l nodes=1,walltime=1", "sleep 1000")
    site.run()
    assert site.states(1, 2, 3) == ["Hold", "Running", "Waiting"]
    held = site("oarhold 3")
    assert (held.out, held.err, held.status) == ("[3] Hold request was sent to the OAR server.\n", "", 0)
    site.run()
    assert site.states(3) == ["Hold"] and site.job(3).scheduled_at is None
    assert site("oarstat").out.splitlines()[-1].split()[:2] == ["3", "H"]
    site.oar.stop()
    site.open()  # and stays so
    resumed = site("oarresume 3 2")
    assert resumed.out == "[3] Resume request was sent to the OAR server.\n"
    assert (resumed.err, resumed.status) == (
        "/!\\ Cannot resume 2: the job is not in the Hold or Suspended state.\n",
        1,
    )
    site.run()
    assert site.states(3) == ["Waiting"] and site.job(3).scheduled_at
    assert [kind for kind, _ in site.events(3)] == ["HOLD_WAITING_JOB", "RESUME_JOB"]
    assert site.events(3)[0][1] == "User jdoe launched oarhold on the job 3"
    site("oardel 1")
    site.run()
    assert site.states(1) == ["Error"] and site.job(1).message == "Job killed by Leon directly"


@pytest.mark.parametrize(
    ("line", "user", "said"),
    [
        ("oarhold 1", "jdoe", "/!\\ Cannot hold 1: the job is not in the right state (try '-r' option).\n"),
        ("oarhold 1", "asmith", "/!\\ Cannot hold 1: you are not the right user.\n"),
        ("oarresume 9", "jdoe", "/!\\ Cannot resume 9: this job does not exist.\n"),
    ],
)
def test_what_cannot_be_held_or_resumed(site: Site, line: str, user: str, said: str) -> None:
    site("oarsub -l nodes=1,walltime=1", "sleep 1000")
    site.run()
    done = site(line, user=user)
    assert (done.err, done.out, done.status) == (said, "", 1)


def test_a_job_waits_for_those_that_are_to_be_over_before(site: Site) -> None:
    site("oarsub -l nodes=1,walltime=1", "sleep 1000")
    site("oarsub -a 1 -l nodes=1,walltime=1", "sleep 1000")
    site("oarsub -a 9 -l nodes=1,walltime=1", "sleep 1000")
    site.run()
    assert site.states(1, 2, 3) == ["Running", "Waiting", "Waiting"]
    assert site.job(2).scheduled_at == site.job(1).started_at + 3600 + 120
    assert site.job(3).message == "Cannot determine scheduling time due to dependency with the job 9"
    assert "    dependencies = 1\n" in site("oarstat -f -j 2").out
    site("oardel 1")
    site.run()
    assert site.states(1, 2, 3) == ["Error", "Running", "Waiting"]


def test_a_script_says_what_it_wants(site: Site) -> None:
    made = site("oarsub -n mine -S", "./job.sh")
    assert made.status == 12
    site.files["./job.sh"] = SCRIPT
    made = site("oarsub -n mine -S", "./job.sh")
    assert made.out == "OAR_JOB_ID=1\n"
    assert made.err == (
        "# Warning: ignore script value for name parameter: from-script; another value was given on the command line.\n"
    )
    job = site.job(1)
    assert (job.name, job.project, job.types, job.walltime) == ("mine", "mine", ("deploy",), 1800)
    assert job.initial_request.startswith("oarsub -n mine -S ./job.sh; #OAR -l nodes=1,walltime=0:30; #OAR -n ")
    site.files["./job.sh"] = "#!/bin/sh\n#OAR --nonsense\n"
    wrong = site("oarsub -S", "./job.sh")
    assert wrong.status == 12 and wrong.err.splitlines() == [
        "/!\\ Not able to scan file line: #OAR --nonsense.",
        "[ERROR] 1 error(s) encountered while parsing the file ./job.sh.",
    ]
    site.files["./job.sh"] = "import os\n#OAR --nonsense\n"  # no script for a shell: nothing is looked for
    assert site("oarsub -S -l nodes=1", "./job.sh").status == 0


def test_a_job_that_is_over_comes_again(site: Site) -> None:
    site("oarsub -l nodes=1,walltime=1 -n x", "sleep 1")
    site("oarsub --hold -a 1 -l nodes=1", "sleep 1")
    early = site("oarsub --resubmit 1")
    assert (early.status, early.err) == (4, "# Error: the job must be in Error or Terminated state.\n")
    site.run()
    again = site("oarsub --resubmit=1")
    assert again.out == "# Resubmitting job 1...# DONE\nOAR_JOB_ID=3\n"
    assert (site.job(3).name, site.job(3).resubmits, site.job(2).anterior) == ("x", 1, (3,))
    assert site("oarsub --resubmit 1", user="asmith").err == "# Error: you are not the right user.\n"


def test_a_noop_job_needs_no_command(site: Site) -> None:
    assert site("oarsub -t noop -l nodes=1,walltime=1").out == "OAR_JOB_ID=1\n"
    site.run()
    assert site.states(1) == ["Running"]


def test_documents_are_told_in_yaml_too(site: Site) -> None:
    site("oarsub -l nodes=1,walltime=1", "sleep 1")
    assert yaml.safe_load(site("oarstat -Y").out)[1]["owner"] == "jdoe"
    assert yaml.safe_load(site("oarnodes -Y").out)[2]["network_address"] == "a-2.lab"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_store_of_an_earlier_version_is_gone_on_with(site: Site, version: int) -> None:
    site("oarsub -l nodes=1,walltime=1", "sleep 1000")
    site.oar.stop()
    with sqlite3.connect(site.folder / "oar.sqlite") as database:
        added = {
            1: ("array", "array_index", "anterior"),
            2: ("checkpoint", "signal"),
            3: ("notify", "stdout", "stderr"),
        }
        for column in (name for before in range(version, 4) for name in added[before]):
            database.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    site.open()
    assert (site.job(1).array, site.job(1).array_index, site.job(1).anterior) == (1, 1, ())
    site.run()
    assert site.states(1) == ["Running"]


def test_notices_are_an_event_of_the_first_job_of_an_array(site: Site) -> None:
    site("oarsub --array 2", "sleep 1")
    assert [kind for kind, _ in site.events(1)] == ["ADM_RULES_MSG_OUT"] and not site.events(2)


def test_a_reservation_that_comes_again_is_for_its_old_time(site: Site) -> None:
    site("oarsub -l nodes=1,walltime=0:1 -r now", "true")
    site.run(100)
    assert site("oarsub --resubmit 1").status == 0
    site.run(100)
    assert (site.states(2), site.job(2).message) == (["Error"], "Reservation expired and couldn't be started.")


def test_what_scripts_say_in_vain_is_told_in_oarsubs_own_words(site: Site) -> None:
    site.files["./job.sh"] = "#!/bin/sh\n#OAR -d /tmp\n#OAR --project a\n#OAR --signal 10\nsleep 1\n"
    made = site("oarsub -S --project b --signal 12 -d /home", "./job.sh")
    told = (("name", "/tmp"), ("name", "a"), ("hold", "10"))
    assert made.err.splitlines() == [
        f"# Warning: ignore script value for {name} parameter: {value}; another value was given on the command line."
        for name, value in told
    ]
    assert site.job(1).directory == "/tmp"
    assert site("oarsub -I -t noop").err == "# Error: a noop job cannot be interactive.\n"
