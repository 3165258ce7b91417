"""The local stand-in for a Grid'5000 site: REST API, scheduler, deployer, frontend, VM nodes."""
