"""The scheduler's and kadeploy's commands on a frontend, over SSH; and execo, which works with nothing else."""

from __future__ import annotations

import functools
import gc
import json
import mailbox
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.lab.deployments import MACRO_STEPS, Deployment, Deployments, Report
from g5kdeploy.lab.kadeploy_command import Kadeploy
from g5kdeploy.lab.kaenv import Environments, environment
from g5kdeploy.lab.kavlan import Kavlan, usual_vlans
from g5kdeploy.lab.network_command import Subnets, Vlans
from g5kdeploy.lab.oar import Hooks, Oar, Resource
from g5kdeploy.lab.site import images, jobs
from g5kdeploy.lab.site.names import LAB
from g5kdeploy.lab.site.namespace import missing
from g5kdeploy.lab.site.oar_command import OarCommands
from g5kdeploy.lab.site.site import Site
from tests.integration.conftest import Run

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(missing(True)), reason=f"needs root and namespaces: {missing(True)}"
)

FOREIGN = Path(__file__).parents[2] / ".venv-foreign" / "bin" / "python"


def until(job: str, state: str) -> str:
    """A loop of the shell that ends when a job is in that state."""
    return f"for i in $(seq 150); do oarstat -sj {job} | grep -q {state} && break; sleep 0.2; done"


class Instantly:
    """A deployer whose nodes are all there at once, but for those of `lost`."""

    def __init__(self, *lost: str) -> None:
        self.lost = lost

    def start(self, deployment: Deployment, report: Report) -> None:
        for node in deployment.nodes:
            report(node, MACRO_STEPS[-1], node not in self.lost, "no answer" if node in self.lost else "")

    def cancel(self, uid: str) -> None:
        raise AssertionError(f"{uid} is over")


class Breaking:
    """A deployer whose workflow breaks down."""

    def start(self, deployment: Deployment, report: Report) -> None:
        report("", MACRO_STEPS[0], False, "kascade died")

    def cancel(self, uid: str) -> None:
        pass


def _hooks(site: Site) -> Hooks:
    return Hooks(
        run_command=functools.partial(jobs.run, site),
        on_end=functools.partial(jobs.forget, site),
        on_notice=functools.partial(jobs.tell, site),
    )


@pytest.fixture
def scheduled(site: Site, tmp_path: Path) -> Iterator[Deployments]:
    """A scheduler with two nodes and a kadeploy behind the frontend's commands, where the second node is lost.

    There are a VLAN and a subnet, too.
    """
    subnet = {"slash_22": "10.188.0.0/22", "subnet_address": "10.188.0.0", "subnet_prefix": 22}
    resources = [
        *(Resource(number, "default", LAB.node(number), {"host": LAB.node(number)}) for number in (1, 2)),
        Resource(3, "kavlan", "", {"vlan": "4"}),
        Resource(4, "subnet", "", subnet),
    ]
    oar = Oar(tmp_path / "oar.sqlite", resources, pace=60, hooks=_hooks(site))
    known = Environments([environment("debian12-min", next(iter(images.SITES_IMAGES)))])
    deployments = Deployments(
        tmp_path / "deployments.sqlite", Instantly(LAB.node(2)), known, rights=lambda user, nodes: user == "jdoe"
    )
    site.commands.others["oar"] = OarCommands(oar, "jdoe", time.time, functools.partial(jobs.contents, site, "jdoe"))
    site.commands.others["kadeploy"] = Kadeploy(deployments, "lab", "jdoe")
    site.commands.others["kavlan"] = Vlans(oar, Kavlan(usual_vlans(), {}), LAB.network, LAB.domain, "jdoe")
    site.commands.others["subnets"] = Subnets(oar, LAB.network, LAB.domain)
    oar.start()
    try:
        yield deployments
    finally:
        oar.stop()
        deployments.close()
        site.commands.others.clear()
        del oar
        gc.collect()  # whoever forgets a job's command that runs on is told here, not in a later test


def test_jobs_are_submitted_and_ended_on_the_frontend(run: Run, scheduled: Deployments) -> None:
    done = run("flab", "cd public && oarsub -t deploy -l nodes=2,walltime=1 'sleep 600'")
    assert (done.returncode, done.stdout) == (0, "OAR_JOB_ID=1\n"), done.stderr
    waited = run(
        "flab", "for i in $(seq 100); do oarstat -sj1 | grep -q Running && break; sleep 0.5; done; oarstat -fj 1"
    )
    assert "state = Running" in waited.stdout and "launchingDirectory = /home/jdoe/public" in waited.stdout
    nodes = run(
        "flab",
        "oarstat -pj 1 | oarprint network_address -f -; oarstat -pj 1 | oarprint host -F '%:%' -P type,host -f -",
    )
    expected = [LAB.node(1), LAB.node(2), f"default:{LAB.node(1)}", f"default:{LAB.node(2)}"]
    assert nodes.stdout.split() == expected, nodes.stderr
    again = run("flab", "oarsub -l nodes=3 'sleep 1'; echo $?; oarsub; echo $?; oardel 1")
    assert "not enough resources" in again.stderr and again.stdout.splitlines()[1:] == [
        "8",
        "Usage: oarsub [options] [-I|-C [<job id>]|-r <start date>[, <end date>]|<script>]",
        "5",
        "Deleting the job = 1 ...REGISTERED.",
        "The job(s) [ 1 ] will be deleted in the near future.",
    ]


def test_a_script_on_the_frontend_says_what_its_jobs_want(run: Run, scheduled: Deployments) -> None:
    lines = ["#!/bin/sh", "#OAR -l nodes=1,walltime=1", "#OAR -t deploy", "#OAR --array-param-file ~/public/params"]
    script = "\n".join([*lines, "echo $OAR_ARRAY_ID $OAR_ARRAY_INDEX $1 > done.$1"])
    run("flab", "cd public && cat > work.sh && chmod +x work.sh && printf 'a\\nb\\n' > params", input=script)
    made = run("flab", "cd public && oarsub -S ./work.sh")
    assert made.stdout == "OAR_JOB_ID=1\nOAR_JOB_ID=2\nOAR_ARRAY_ID=1\n", made.stderr
    ended = "for i in $(seq 200); do [ $(oarstat -s --array 1 | grep -c Terminated) = 2 ] && break; sleep 0.5; done"
    done = run("flab", f"{ended}; oarstat -s --array 1; cat public/done.*")
    assert done.stdout == "1: Terminated\n2: Terminated\n1 1 a\n1 2 b\n", done.stderr
    held = run("flab", "oarsub --hold -l nodes=1 true | tail -n 1; oarhold 3; oarresume 3; oarstat -sj 3")
    assert held.stdout.splitlines()[:2] == ["OAR_JOB_ID=3", "[3] Resume request was sent to the OAR server."]
    assert held.stderr == "/!\\ Cannot hold 3: the job is not in the right state (try '-r' option).\n"


CATCHES = """#!/bin/bash
trap 'echo saved; exit 4' USR2
trap 'echo asked' USR1
echo ready; cat $OAR_NODEFILE
while :; do sleep 0.2; done
"""


def test_signals_and_checkpoints_reach_a_jobs_command(run: Run, scheduled: Deployments) -> None:
    run("flab", "cat > catches.sh && chmod +x catches.sh", input=CATCHES)
    asked = "-O said.%jobid% -E told.%jobid% -t deploy -l nodes=1,walltime=1 --checkpoint 10 ./catches.sh"
    assert run("flab", f"oarsub {asked}").stdout == "OAR_JOB_ID=1\n"
    lines = "for i in $(seq 100); do [ $(cat said.1 | wc -l) -ge {} ] && break; sleep 0.2; done"
    done = run(
        "flab", f"{lines.format(2)}; oardel -s USR1 1; {lines.format(3)}; oardel -c 1; {lines.format(4)}; cat said.1"
    )
    assert done.stdout.splitlines()[-4:] == ["ready", LAB.node(1), "asked", "saved"], done.stderr
    over = run("flab", f"{until('1', 'Terminated')}; oarstat -fj 1; cat told.1")
    assert "exit_code = 1024 (4,0,0)" in over.stdout and "stdout_file = said.1\n" in over.stdout, over.stdout
    told = re.findall(r"^## OAR \[[-0-9]+ [:0-9]+\] Job 1 (.+) ##$", over.stdout, re.MULTILINE)
    assert told == ["SIGNALED with USR1", "CHECKPOINTED with signal 12"]


@pytest.mark.parametrize(
    ("file", "state"),
    [("/dev/null", "Terminated"), ("public/out", "Terminated"), ("/etc/x", "Error"), ("/x/y", "Error")],
)
def test_a_jobs_output_goes_where_its_user_can_write(run: Run, scheduled: Deployments, file: str, state: str) -> None:
    run("flab", f"oarsub -t deploy -l nodes=1 -O {file} -E {file} 'echo said'")
    done = run("flab", f"{until('1', state)}; oarstat -sj 1; cat public/out; rm -f public/out")
    assert done.stdout == f"1: {state}\n" + ("said\n" if file == "public/out" else "")


def test_a_signal_waits_for_a_command_that_is_about_to_begin(
    run: Run, scheduled: Deployments, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RETRY", 0.2)
    run("flab", "cat > catches.sh && chmod +x catches.sh", input=CATCHES)
    run("flab", "oarsub -t deploy -l nodes=1,walltime=1 -O said -E told ./catches.sh")
    ready = "for i in $(seq 100); do [ $(cat said | wc -l) -ge 2 ] && break; sleep 0.2; done"
    run("flab", f"{until('1', 'Running')}; {ready}")
    known = site.folder / "jobs" / "1" / "pid"
    aside = known.rename(known.with_name("not-yet"))
    assert "SIGNALED" not in run("flab", "oardel -s USR1 1; sleep 1; cat told").stdout
    aside.rename(known)
    done = run(
        "flab", "for i in $(seq 50); do grep -q SIGNALED told && break; sleep 0.2; done; grep asked said; cat told"
    )
    assert done.stdout.count("asked") == done.stdout.count("SIGNALED with USR1") == 1, done.stdout
    run("flab", f"oardel 1; {until('1', 'Error')}; rm -f said told")


def test_a_job_that_is_deleted_is_killed_with_all_that_it_started(run: Run, scheduled: Deployments) -> None:
    run("flab", "oarsub -t deploy -l nodes=1 'trap : TERM; sleep 7654 & wait; wait; sleep 7654'")
    done = run(
        "flab", f"{until('1', 'Running')}; oardel 1; {until('1', 'Error')}; pgrep -f 'sleep 765[4]'; cat OAR.1.stderr"
    )
    assert re.search(r"^## OAR \[.+\] Job 1 KILLED ##$", done.stdout, re.MULTILINE), done.stdout
    assert not re.search(r"^\d+$", done.stdout, re.MULTILINE)


def test_whoever_asks_for_it_is_told_how_his_job_fares(run: Run, scheduled: Deployments, site: Site) -> None:
    run("flab", "cat > told.sh && chmod +x told.sh", input='#!/bin/sh\necho "$#: $*" >> ~/told\n')
    run("flab", "oarsub -t deploy -l nodes=1 -n mine --notify 'exec:/home/jdoe/told.sh now' true")
    run("flab", "oarsub -t deploy -l nodes=1 --notify '[END, ERROR]mail:jdoe@here' true")
    run("flab", "oarsub -t deploy -l nodes=1 --notify exec:/not/there true")
    done = run(
        "flab",
        f"{until('1', 'Terminated')}; {until('2', 'Terminated')}; sleep 1; cat told; oarstat -ej 1; oarstat -ej 2",
    )
    assert set(done.stdout.splitlines()[:2]) == {
        "5: now 1 mine RUNNING Job is running.",
        "5: now 1 mine END Job stopped normally.",
    }
    assert "told.sh now 1 mine END" in done.stdout and "exit value = 0, signal num = 0, dumped core = 0" in done.stdout
    failed = run("flab", f"{until('3', 'Terminated')}; sleep 1; oarstat -ej 3").stdout
    assert "exit value = 127, signal num = 0" in failed, failed
    assert "USER_MAIL_NOTIFICATION: [Judas] Send a mail to jdoe@here --> END" in done.stdout
    box = mailbox.mbox(site.folder / "mail")
    (letter,) = box
    box.close()
    assert (letter["To"], letter["Subject"]) == ("jdoe@here", "*OAR* [END]: 2 () on lab")
    assert letter.get_payload() == "Job stopped normally.\n"


def test_an_interactive_job_ends_with_its_terminal(run: Run, scheduled: Deployments) -> None:
    done = run("flab", "oarsub -I -t deploy -l nodes=1", input="echo job $OAR_JOB_ID; cat $OAR_NODEFILE; exit 3\n")
    assert done.returncode == 3, done.stderr
    words = done.stdout.splitlines()
    assert words[words.index("# Starting...") + 1 :][:2] == ["job 1", LAB.node(1)]
    assert "Deleting the job = 1 ...REGISTERED." in words


def test_whoever_leaves_while_an_interactive_job_waits_takes_it_along(run: Run, scheduled: Deployments) -> None:
    run("flab", "oarsub -t deploy -l nodes=2 'sleep 600'")
    interrupted = "timeout --foreground --preserve-status -s INT 3 oarsub -I -t deploy -l nodes=1"
    done = run("flab", f"{interrupted}; echo status $?")
    assert "Deleting the job = 2 ...REGISTERED." in done.stdout and "status 130" in done.stdout, done.stderr


def test_a_job_that_is_over_gives_no_terminal(run: Run, scheduled: Deployments) -> None:
    run("flab", "oarsub -t deploy -l nodes=2 'sleep 600'")
    done = run("flab", "(sleep 3; oardel 2) > /dev/null & oarsub -I -t deploy -l nodes=1; echo status $?")
    assert "status 11" in done.stdout and "job 2 is over before a terminal was there" in done.stderr


def test_what_breaks_down_is_told(run: Run, scheduled: Deployments, site: Site) -> None:
    def broken(request: object) -> object:
        raise ZeroDivisionError

    site.commands.others["oar"] = broken  # type: ignore[assignment]
    done = run("flab", "oarstat")
    assert done.returncode == 1 and done.stderr == "oarstat: internal error; the lab's log has it\n"
    scheduled.deployer = Breaking()
    done = run("flab", f"kadeploy3 -e debian12-min -m {LAB.node(1)}")
    assert done.returncode == 1 and done.stderr == "kadeploy3: kascade died\n"


def test_kadeploy_says_which_nodes_are_lost(run: Run, scheduled: Deployments) -> None:
    done = run("flab", f"kadeploy3 -e debian12-min -k -m {LAB.node(1)} -m vm-2.lab.grid5000.fr -o ok -n ko; cat ok ko")
    _, _, told = done.stdout.partition("The deployment is successful on nodes\n")
    assert told.splitlines() == [
        LAB.node(1),
        "The deployment failed on nodes",
        f"{LAB.node(2)} (no answer)",
        LAB.node(1),
        LAB.node(2),
    ], done.stderr
    (launched,) = scheduled.every()
    assert launched.keys.startswith("ssh-ed25519 ") and launched.status == "terminated"
    refused = run(
        "flab", f"kadeploy3 -e none -m {LAB.node(1)}; kadeploy3 -a - -m {LAB.node(1)}; kadeploy3 -e x", input="["
    )
    assert refused.returncode == 1 and refused.stderr.splitlines() == [
        "kadeploy3: Invalid environment specification -- the environment none::: does not exist",
        "kadeploy3: Invalid environment specification -- the environment cannot be loaded from the description you specified",
        "kadeploy3: You must specify some nodes (-m, -f)",
    ]


@pytest.mark.skipif(not FOREIGN.exists(), reason="needs .venv-foreign: scripts/setup test makes it")
def test_execo_reserves_and_deploys_over_the_frontend(site: Site, scheduled: Deployments, tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "contract" / "foreign" / "execo_frontend.py"
    config = str(site.places.home / ".ssh" / "config")
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "LAB_SSH_CONFIG": config}
    done = subprocess.run([FOREIGN, script], env=env, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("after") in ("Running", "toError", "Finishing", "Error")
    nodes = [LAB.node(1), LAB.node(2)]
    assert seen == {
        "nodes": nodes,
        "state": "Running",
        "walltime": 1800,
        "jobs": True,
        "deployed": nodes[:1],
        "lost": nodes[1:],
        "vlans": [4],
        "address": ["10.188.0.1", "00:16:3E:BC:00:01"],
        "subnet": {
            "ip_prefix": "10.188.0.0/22",
            "broadcast": "10.191.255.255",
            "netmask": "255.252.0.0",
            "gateway": "10.191.255.254",
            "network": "10.188.0.0",
            "dns_hostname": "dns.lab.grid5000.fr",
            "dns_ip": "172.16.79.254",
        },
    }


def test_networks_of_a_job_are_told_on_the_frontend(run: Run, site: Site, scheduled: Deployments) -> None:
    run(
        "flab",
        "oarsub -t deploy -l \"{type='kavlan'}/vlan=1+{type='subnet'}/slash_22=1+nodes=1,walltime=1\" 'sleep 600'",
    )
    run("flab", "for i in $(seq 100); do oarstat -sj1 | grep -q Running && break; sleep 0.5; done")
    done = run("flab", "export OAR_JOB_ID=1; kavlan -V; kavlan -l; kavlan -r -i 1; g5k-subnets -ibn | head -n 1")
    assert done.stdout.splitlines() == [
        "4",
        f"vm-1-kavlan-4.{LAB.domain}",
        "192.168.192.0/20",
        "10.188.0.1\t10.191.255.255\t255.252.0.0",
    ], done.stderr
    kept = run("flab", "g5k-subnets -j 1 -o public/subnets && cat public/subnets; kavlan -V; echo $?")
    assert kept.stdout == "10.188.0.0/22\n1\n" and kept.stderr == "kavlan: no job specified, use -j\n"
    around = run("flab", "getent hosts dns.lab.grid5000.fr kavlan-2.lab.grid5000.fr | cut -d' ' -f1")
    assert around.stdout.splitlines() == ["172.16.79.254", "172.16.79.106"], around.stderr
    shown = site.namespace.run(["ip", "-brief", "address"], Deadline.after(30, "the site's addresses")).stdout
    assert "10.191.255.254/14" in shown  # the router of the subnets
