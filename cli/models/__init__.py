"""List, load, unload, tune and fetch the models that the fleet's llama-servers serve.

examples:
  paddock models list
  paddock models load qwen-35b               waits until it is ready
  paddock models use qwen-35b                loads it, unloads all others
  paddock models ctx qwen-35b 65536          writes the inventory, updates the hosts
  paddock models preset qwen-35b temp=0.7 top-k=
  paddock models fit                         shows memory needed and left
  paddock models pull --lock                 pins commits and digests in the lock
  paddock models pull                        fetches files to the hosts, ahead of `paddock up`
  paddock models prune                       deletes models that the inventory does not name
"""

ACTIONS = ("list", "load", "unload", "use", "ctx", "preset", "fit", "pull", "prune")
