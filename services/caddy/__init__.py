"""Lists the models of a llama-server for clients that are no administrators, and says what the server can do.

    GET  /models, /v1/models     the models: id, status, context; no command lines
    GET  /models/sse             what happens to them, as it happens
    GET  /props                  the server's properties, or a model's with ?model=NAME; loads nothing

llama-server's own answers have the command line of every model in them, with paths and all. Of each answer, only what answers.py names
gets through.

It answers Caddy, over the Unix socket that systemd hands it. The header X-Paddock-Upstream says which llama-server is meant:
`ADDRESS:PORT` or `unix//PATH`. Of several, by commas, all models are listed, and what happens at any of them is told. One that is down is
left out. An API key that the caller shows is passed on.
It needs Python 3.10 and nothing else. The modules import each other relatively: on a host the package has another name.
"""
