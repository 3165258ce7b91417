"""Run by execo's own interpreter: its API calls, its cache of the reference data, and its planning of slots."""

import json
import os
import sys

from execo_g5k import api_utils, planning, utils

uri, user, password = os.environ["LAB_URI"], os.environ["LAB_USER"], os.environ["LAB_PASSWORD"]
api_utils._g5k_api = api_utils.APIConnection(base_uri=uri, username=user, password=password)
seen: dict = {
    "sites": api_utils.get_g5k_sites(),
    "clusters": api_utils.get_site_clusters("lab"),
    "hosts": sorted(api_utils.get_cluster_hosts("vm")),
    "queues": api_utils.get_cluster_queues("vm"),
    "cores": api_utils.get_host_attributes("vm-1")["architecture"]["nb_cores"],
    "long": api_utils.get_host_longname("vm-1"),
    "equipments": api_utils.get_site_network_equipments("lab"),
}
seen["vlans"] = sorted(planning.get_planning(["lab"], vlan=True)["lab"]["vlans"])
seen["network"], seen["fastest"] = utils.get_kavlan_network(4, "lab"), utils.get_fastest_host(["vm-2"])
found = planning.get_planning(["lab"])
seen["busy"] = {host: len(slots["busy"]) for host, slots in found["lab"]["vm"].items()}
slots = planning.compute_slots(found, "0:30:00")
start, end, resources = planning.find_first_slot(slots, {"vm": 2})
seen["first slot"] = resources["vm"]
seen["job specs"] = [[str(spec.resources), site] for spec, site in planning.get_jobs_specs({"vm": 2})]
json.dump(seen, sys.stdout)
