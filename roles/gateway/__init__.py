"""One key for each user, limits, fair turns and a log, before the llama-servers of one host or of several."""
