"""A machine that people sit at: certificates where their programs look for them, browsers, a bridge, the pi coding agent."""
