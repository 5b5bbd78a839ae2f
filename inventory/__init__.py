"""What exists: the fleet, as one YAML file describes it."""
