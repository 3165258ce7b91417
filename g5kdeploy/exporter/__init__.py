"""The program that runs on the nodes: loads BPF objects, serves Prometheus. Imports nothing else of ours."""
