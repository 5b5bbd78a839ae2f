"""List, show, set, replace and re-encrypt the fleet's secrets, and say who can decrypt them.

examples:
  paddock secrets list
  paddock secrets set hf-token            asks for the value, or reads it from standard input
  paddock secrets show hf-token
  paddock secrets rotate api-key.ai       another value of one that Paddock made; `paddock up` lands it
  paddock secrets rotate                  encrypts all again, after a change in recipients.txt
  paddock secrets recipients              lists who can decrypt; --accept accepts new ones

Secrets are encrypted with age for all recipients in `.paddock/<fleet>/recipients.txt`. PADDOCK_AGE_IDENTITY or
~/.config/paddock/identity.txt decrypts them.
"""

ACTIONS = ("list", "show", "set", "rotate", "recipients")
