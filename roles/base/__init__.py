"""What every host needs before anything else."""
