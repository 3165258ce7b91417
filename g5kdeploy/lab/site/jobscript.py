"""What a job's commands find around them, and the scripts that bring them where they run."""

from __future__ import annotations

import posixpath
import shlex

from g5kdeploy.lab.oar.model import Job
from g5kdeploy.lab.oar.text import duration
from g5kdeploy.lab.site.site import INSIDE

ON_FRONTEND = frozenset({"deploy", "cosystem", "noop"})
GONE = 255
"""ssh's exit status when the connection was lost."""


def runs_on_frontend(job: Job) -> bool:
    """Do a job's commands run on the frontend, and not on its first node?"""
    return bool({kind.partition("=")[0] for kind in job.types} & ON_FRONTEND)


def files(job: Job) -> dict[str, str]:
    """The files that are told to its commands: `nodes` with a line for each resource, `resources` with their properties."""
    nodes = sorted(one.address for one in job.assigned if one.type == "default")
    described = [
        {"id": one.id, "type": one.type, "network_address": one.address, **one.properties} for one in job.assigned
    ]
    lines = [" ,".join(f" {name} = '{value}'" for name, value in one.items()) for one in described]
    return {"nodes": "".join(f"{line}\n" for line in nodes), "resources": "".join(f"{line}\n" for line in lines)}


def exports(job: Job, place: str) -> str:
    """The variables that a job's commands find, as words for the shell's `export`; its files are in that place."""
    directory, nodes = job.directory, f"{place}/nodes"
    values = {
        **dict.fromkeys(("OAR_JOBID", "OAR_JOB_ID"), str(job.id)),
        **dict.fromkeys(("OAR_ARRAYID", "OAR_ARRAY_ID"), str(job.array)),
        **dict.fromkeys(("OAR_ARRAYINDEX", "OAR_ARRAY_INDEX"), str(job.array_index)),
        **dict.fromkeys(("OAR_WORKDIR", "OAR_O_WORKDIR", "OAR_WORKING_DIRECTORY"), directory),
        **dict.fromkeys(("OAR_NODEFILE", "OAR_NODE_FILE", "OAR_FILE_NODES", "OAR_RESOURCE_FILE"), nodes),
        "OAR_RESOURCE_PROPERTIES_FILE": f"{place}/resources",
        "OAR_STDOUT": job.stdout_file,
        "OAR_STDERR": job.stderr_file,
        "OAR_USER": job.user,
        "OAR_JOB_NAME": job.name or "",
        "OAR_PROJECT_NAME": job.project,
        "OAR_JOB_WALLTIME": duration(job.walltime),
        "OAR_JOB_WALLTIME_SECONDS": str(job.walltime),
    }
    return " ".join(f"{key}={shlex.quote(value)}" for key, value in values.items())


def output(job: Job) -> tuple[str, str]:
    """The files of its output and of its errors."""
    return posixpath.join(job.directory, job.stdout_file), posixpath.join(job.directory, job.stderr_file)


def folder(job: Job) -> str:
    """The folder of its files on the frontend."""
    return f"{INSIDE}/jobs/{job.id}"


def there(job: Job) -> str:
    """The folder of its files on its first node."""
    return f"/tmp/.oar-{job.id}"  # noqa: S108 - of a node that nobody else has


def on_node(job: Job) -> str:
    """The beginning of a script on its first node: its files, its variables and its directory, where that is there."""
    place = there(job)
    written = [f"printf %s {shlex.quote(text)} > {place}/{name}" for name, text in files(job).items()]
    return f"mkdir -p {place}; {'; '.join(written)}; export {exports(job, place)}; cd {shlex.quote(job.directory)} 2>/dev/null"


def script(job: Job) -> str:
    """What runs on the frontend as the user: the command itself, or an ssh that takes it to the first node.

    A script lies beside the job's output, as on the real site; homes are not mounted on the
    nodes, so it is sent there. The shell that the user's signals are for is this very process (see `there` for nodes).
    """
    out, errors = map(shlex.quote, output(job))
    command = job.command or ":"
    lines = [f"cd {shlex.quote(job.directory)} || exit 1", f"export {exports(job, folder(job))}"]
    if job.script is not None:
        file = shlex.quote(command)
        lines.append(f"printf '%s\\n' {shlex.quote(job.script)} > {file}; chmod +x {file}")
    if runs_on_frontend(job) or not job.nodes:
        lines.append(f"exec /bin/bash -c {shlex.quote(command)} >> {out} 2>> {errors}")
        return "\n".join(lines)
    lines.append(f"exec >> {out} 2>> {errors}")
    sent = command if job.script is None else job.script
    lines.append(
        f"printf '%s\\n' {shlex.quote(sent)} | ssh -o BatchMode=yes {job.nodes[0]} {shlex.quote(_remote(job))}"
    )
    # A node that left its kernel tells nobody how the command ended: the job goes on until it is killed
    lines.append(f"s=$?; [ $s -ne {GONE} ] || exec sleep infinity")
    lines.append("[ $s -le 128 ] || kill -s $((s - 128)) $$ 2>/dev/null; exit $s")
    return "\n".join(lines)


def _remote(job: Job) -> str:
    """What the first node's shell runs; the command, or a whole script, comes to its stdin."""
    if job.script is None:
        command = 'exec /bin/bash -c "$(cat)"'
    else:
        file = shlex.quote(job.command or "")
        command = f"cat > {file} && chmod +x {file} && exec {file}"
    return f"{on_node(job)}; (echo $BASHPID > {there(job)}/pid; {command}); s=$?; [ $s -ne {GONE} ] || s=1; exit $s"
