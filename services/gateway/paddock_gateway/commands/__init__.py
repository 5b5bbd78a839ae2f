"""What `paddock-gateway COMMAND` does, a module a noun. Each function takes the options and returns the exit status."""
