"""Run by EnOSlib's own interpreter, with the lab's home as HOME: `init` with a job whose node is deployed, and Ansible on it."""

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
said = en.run_command("hostname; id -un", roles=roles)[0].payload["stdout"].splitlines()
with en.actions(roles=roles) as at:
    at.copy(content="from Ansible\n", dest="/root/seen")
    at.slurp(src="/root/seen")
    slurped = at.results[-1].payload["content"]
seen = {
    "nodes": [host.address],
    "said": said,
    "content": slurped,
    "processor": host.processor.cores,
    "addresses": sorted(str(one.ip.ip) for one in host.filter_addresses(networks["network"])),
}
json.dump(seen, sys.stdout)
