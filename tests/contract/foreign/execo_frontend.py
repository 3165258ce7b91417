"""Run by execo's own interpreter: a job by oarsub on the frontend, its nodes, a deployment by kadeploy3, its end."""

import json
import os
import sys

from execo import Host
from execo_g5k import (
    Deployment,
    OarSubmission,
    deploy,
    get_current_oar_jobs,
    get_oar_job_info,
    get_oar_job_kavlan,
    get_oar_job_nodes,
    get_oar_job_subnets,
    oardel,
    oarsub,
)
from execo_g5k.config import default_frontend_connection_params, g5k_configuration

g5k_configuration.update(polling_interval=1, tiny_polling_interval=1)
options = ("-tt", "-F", os.environ["LAB_SSH_CONFIG"], "-o", "BatchMode=yes", "-o", "ConnectTimeout=60")
default_frontend_connection_params["ssh_options"] = options
wanted = ["nodes=2", "{type='kavlan'}/vlan=1", "{type='subnet'}/slash_22=1"]
submission = OarSubmission(resources=wanted, walltime="0:30:00", job_type="deploy", name="execo")
((job, site),) = oarsub([(submission, "lab")], abort_on_error=True)
seen: dict = {"nodes": sorted(host.address for host in get_oar_job_nodes(job, site, timeout=300))}
seen["state"] = get_oar_job_info(job, site)["state"]
seen["walltime"] = get_oar_job_info(job, site)["walltime"]
seen["jobs"] = [number for number, _ in get_current_oar_jobs(["lab"])] == [job]
addresses, seen["subnet"] = get_oar_job_subnets(job, site)
seen["address"], seen["vlans"] = addresses[0], get_oar_job_kavlan(job, site)
hosts = [Host(address) for address in seen["nodes"]]
deployed, lost = deploy(
    Deployment(hosts, env_name="debian12-min"), check_deployed_command=None, num_tries=1, deploy_timeout=300
)
seen["deployed"], seen["lost"] = sorted(deployed), sorted(lost)
oardel([(job, site)])
seen["after"] = get_oar_job_info(job, site)["state"]
json.dump(seen, sys.stdout)
