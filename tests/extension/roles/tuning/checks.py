"""The parameters are resources, and these say themselves how they are looked at."""
