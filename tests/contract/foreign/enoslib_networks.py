"""Run by EnOSlib's own interpreter: further networks and disks of a job, what it opens for itself, and a slot for two."""

import json
import sys
import time

import enoslib as en
from enoslib.errors import InvalidReservationTime
from enoslib.infra.enos_g5k import g5k_api_utils
from enoslib.infra.enos_g5k.provider import _concretize_networks, _concretize_nodes, _join
from enoslib.infra.providers import Providers


def configuration(name: str, **more: object) -> en.G5kConf:
    return en.G5kConf.from_settings(job_name=name, walltime="1:00:00", **more)


production, vlan, subnet, block = (
    en.G5kNetworkConf(id=kind, type=kind, roles=[kind], site="lab")
    for kind in ("prod", "kavlan", "slash_22", "slash_16")
)
conf = configuration("networks", job_type=["deploy"], env_name="debian12-min")
for network in (production, vlan, subnet, block):
    conf.add_network_conf(network)
conf.add_machine(
    roles=["all"],
    cluster="vm",
    nodes=2,
    primary_network=production,
    secondary_networks=[vlan],
    reservable_disks=True,
)
provider = en.G5k(conf.finalize())
provider.reserve()
provider.wait()
(job,) = provider.jobs
seen: dict = {"disks": sorted(job.resources_by_type["disks"])}

# what launch() does once the job runs, without its deployment
nodes, networks = provider.driver.resources()
provider.networks = _concretize_networks(provider.provider_conf.networks, networks)
provider.hosts = _join(_concretize_nodes(provider.provider_conf.machines, nodes), provider.networks)
for host in provider.hosts:
    host.mirror_state()
provider.sshable_hosts = provider.hosts
roles, found = provider._to_enoslib()
seen["networks"] = {kind: [str(one.network) for one in found[kind]] for kind in ("prod", "kavlan", "slash_22")}
seen["block"] = len(found["slash_16"])
seen["around"] = [str(one) for one in (found["prod"][0].gateway, found["prod"][0].dns, found["slash_22"][0].gateway)]
seen["mac"] = next(iter(found["slash_22"][0].free_macs))
site = g5k_api_utils.get_site_obj("lab")
held = job.resources_by_type["vlans"][0]
seen["moved"] = sorted(one.uid for one in site.vlans[held].nodes.list())
with provider.firewall(hosts=list(roles["all"])[:1], port=[80, 443]):
    (rule,) = job.firewall.list()
    seen["firewall"] = {"port": rule.port, "proto": rule.proto, "addresses": rule.addr}
seen["metrics"] = [one["name"] for one in g5k_api_utils.available_kwollect_metrics(nodes)[nodes[0]]][:1]
seen["closed"] = list(job.firewall.list())
g5k_api_utils.enable_home_for_job(job, [str(next(iter(found["slash_22"][0].free_ips)))])
seen["home"] = [one.termination["job"] == job.uid for one in site.storage["home"].access["jdoe"].rules.list()]

# one that comes too soon; and two that are to begin together, after this job
hasty = en.G5k(configuration("hasty", job_type=[]).add_machine(roles=["x"], cluster="vm", nodes=3).finalize())
hasty.set_reservation(int(time.time()) + 300)
try:
    hasty.reserve()
except InvalidReservationTime as hint:
    seen["hint"] = hint.datetime.timestamp() - job.started_at
pair = Providers(
    [
        en.G5k(configuration(name, job_type=[]).add_machine(roles=[name], cluster="vm", nodes=2).finalize())
        for name in ("left", "right")
    ]
)
pair.async_init(start_time=int(time.time()) + 60, time_window=7200)
seen["starts"] = [one.started_at - job.started_at for each in pair.providers for one in each.jobs]
for one in (pair, provider):
    one.destroy(wait=True)
json.dump(seen, sys.stdout)
