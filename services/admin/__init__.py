"""Shows the presets of this host's llama.cpp router, changes the context of a model in them, and restarts the servers.

    GET  /paddock/admin/preset     the router's presets.ini
    POST /paddock/admin/ctx        {"model": "chat", "size": 8192}
    POST /paddock/admin/restart    {}

It answers the reverse proxy, which knows its key, and says as X-Paddock-Client whose certificate it has seen. A browser presents that
certificate for whatever a page makes it ask: so a change needs the header `X-Paddock-Request: 1`, which no form of a page can send, and
what a page sends is refused.

Its configuration is the JSON file that it is given, as configuration.schema.json describes it; where llama-server asks for a key, that is
LLAMA_API_KEY. It needs Python 3.10 and nothing else. The modules import each other relatively: on a host the package has another name.
"""
