"""Reference data of sites, clusters and nodes, with its history: generated, or read from a reference repository."""

from g5kdeploy.lab.reference.generate import big_world, lab_site
from g5kdeploy.lab.reference.hardware import NodeHardware, SiteNetwork
from g5kdeploy.lab.reference.load import beside, load, load_any
from g5kdeploy.lab.reference.tree import Commit, Reference

__all__ = ["Commit", "NodeHardware", "Reference", "SiteNetwork", "beside", "big_world", "lab_site", "load", "load_any"]
