"""Create, list, show, revoke and rotate the keys of gateways' users.

examples:
  paddock keys list                                  every user: declared in the inventory, or made at a gateway
  paddock keys show alice --key                      the key of a user whom the inventory declares
  paddock keys create carol --models qwen --requests 60 --expires 30d
  paddock keys revoke carol                          its keys are refused from now on
  paddock keys rotate alice                          another key in place of this one

Users who are to stay belong into the inventory, under `users`: `paddock up` makes and lands their keys. The others live in the gateway's
database, which `up` leaves alone.
"""

ACTIONS = ("create", "list", "show", "revoke", "rotate")
