"""Run by EnOSlib's own interpreter, with the lab's home as HOME: `init` with a deployed job, and what Ansible says of its node."""

import json
import sys

import enoslib as en

network = en.G5kNetworkConf(id="prod", type="prod", roles=["network"], site="lab")
conf = (
    en.G5kConf.from_settings(job_type=["deploy"], env_name="debian12-min", job_name=sys.argv[1], walltime="00:50:00")
    .add_network_conf(network)
    .add_machine(roles=["server"], cluster="vm", nodes=1, primary_network=network)
    .finalize()
)
roles, networks = en.G5k(conf).init()
roles = en.sync_info(roles, networks)
(host,) = roles["server"]
seen = {
    "nodes": [host.address],
    "cores": host.processor.cores if host.processor else 0,
    "addresses": sorted(str(one.ip.ip) for one in host.filter_addresses(networks["network"])),
}
json.dump(seen, sys.stdout)
