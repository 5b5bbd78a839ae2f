"""List, build, export, import and prune built releases of llama.cpp, and pin what they are built from.

examples:
  paddock artifacts list
  paddock artifacts pull --lock                                    pins the digests of the sources, where the inventory says none
  paddock artifacts build --limit pi                               builds on pi's builder; does not connect to pi
  paddock artifacts dockerfile rig --to build                      for `docker build`: just the options that rig's own build has
  paddock artifacts export 0.3.36-1f0c8a2b3c4d -o /media/stick/    for a site without compilers or internet access
  paddock artifacts import /media/stick/0.3.36-1f0c8a2b3c4d.paddock.tar
  paddock artifacts prune                                          removes those that no host of the inventory serves
  paddock artifacts prune 0.3.35-77aa01c2d3e4

Artifacts are stored in `.paddock/<fleet>/artifacts/`. A host with `llama_cpp: {builder: false}` installs only artifacts that exist already.
"""

ACTIONS = ("list", "pull", "build", "export", "import", "prune", "dockerfile")
