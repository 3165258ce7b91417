"""Run by EnOSlib's own interpreter, with the lab's home as HOME: reserve, deploy, look, destroy, and say what was seen."""

import json
import sys

import enoslib as en
from enoslib.infra.enos_g5k.g5k_api_utils import get_api_client, get_clusters_status, grid_reload_jobs_from_name
from enoslib.infra.enos_g5k.provider import _concretize_networks, _concretize_nodes, _join, deploy_with_retries

network = en.G5kNetworkConf(id="prod", type="prod", roles=["network"], site="lab")
conf = (
    en.G5kConf.from_settings(
        job_type=["deploy"], env_name="debian12-min", job_name="enoslib-life", walltime="20:00:00", queue="default"
    )
    .add_network_conf(network)
    .add_machine(roles=["server"], cluster="vm", nodes=1, primary_network=network)
    .add_machine(roles=["client"], servers=["vm-3.lab.grid5000.fr"], primary_network=network)
    .finalize()
)
provider = en.G5k(conf)
seen: dict = {}
status = get_clusters_status(["vm"])["vm"]
seen["free"] = sorted(node for node, state in status.nodes.items() if state["soft"] == "free")

provider.reserve()
provider.wait()
(job,) = provider.jobs
seen["types"], seen["name"], seen["nodes"] = job.types, job.name, sorted(job.assigned_nodes)
seen["again"] = [one.uid for one in grid_reload_jobs_from_name("enoslib-life")] == [job.uid]

# what launch() does between the reservation and the first ssh
oar_nodes, oar_networks = provider.driver.resources()
networks = _concretize_networks(provider.provider_conf.networks, oar_networks)
hosts = _join(_concretize_nodes(provider.provider_conf.machines, oar_nodes), networks)
for host in hosts:
    host.mirror_state()
seen["roles"] = {role: [host.fqdn for host in hosts if role in host.roles] for role in ("server", "client")}
options = {"environment": "debian12-min", "key": "ssh-ed25519 AAAA enoslib"}
deployed, lost = deploy_with_retries(hosts, True, options)
seen["deployed"], seen["lost"] = sorted(host.fqdn for host in deployed), [host.fqdn for host in lost]

provider.destroy(wait=True)
site = get_api_client().sites["lab"]
seen["left"] = [one.uid for one in site.jobs.list(state="running,waiting,launching", user="jdoe")]
json.dump(seen, sys.stdout)
