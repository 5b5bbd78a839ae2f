"""Who may reach the ports that the fleet declares on a host."""
