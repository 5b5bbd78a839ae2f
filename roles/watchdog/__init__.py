"""Who looks after the servers between two deployments."""
