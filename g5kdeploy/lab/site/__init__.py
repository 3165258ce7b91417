"""The site itself: its network, frontend, gateway, web server, and nodes that are QEMU machines."""
