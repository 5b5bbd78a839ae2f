"""List, issue, renew, revoke, export and import certificates, and change to another CA.

examples:
  paddock certs list                             lists each with its holder, expiry date and hosts
  paddock certs issue phone                      adds a client
  paddock certs export phone --p12               writes its files, for a browser or a phone
  paddock certs revoke phone                     shuts it out on all hosts, now
  paddock certs renew --all
  paddock certs roll-over begin                  first of three steps to a new CA
  paddock certs import --ca root-ca.pem --client laptop=client.crt

`paddock up` issues missing certificates, and renews those with less than a third of their life left. These commands are for the exceptions.
"""

ACTIONS = ("list", "issue", "renew", "revoke", "export", "import", "roll-over")
