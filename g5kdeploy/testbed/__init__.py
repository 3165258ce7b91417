"""Sites, clusters, nodes, reservations, deployments: the Grid'5000 REST client."""
