"""PostgreSQL as the distribution has it, with a database for the gateway."""
