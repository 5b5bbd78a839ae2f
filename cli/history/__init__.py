"""Show what each run has changed: when, by whom, on which hosts, and how that ended.

examples:
  paddock history                        the last 20 runs that changed something
  paddock history --limit ai -n 5        the last five that changed one host
  paddock history show 42                all that one run did
  paddock history show --diff            what the last run changed in files, options and releases

`up`, `teardown` and every other verb that changes hosts leave a record. The records lie in `.paddock/<fleet>/history/`.
"""

ACTIONS = ("list", "show")
DEFAULT = "list"
