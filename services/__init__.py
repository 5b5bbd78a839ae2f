"""Programs that run on the hosts and that no library gives: a package each. It imports nothing of Paddock, which hands it a JSON file."""
