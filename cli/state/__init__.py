"""What the control machine keeps of a fleet.

examples:
  paddock state adopt              where the newest state is lost: takes over what the hosts know of it
"""

ACTIONS = ("adopt",)
