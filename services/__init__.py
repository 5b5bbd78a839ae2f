"""Programs that run on the hosts and that no library gives: one file each, for the host's own Python and its standard library."""
