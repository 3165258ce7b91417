"""A QEMU machine: start, QMP, console, network, KVM probe. Imports only base."""
