"""APIs that reach a back end as chat completions, and their answers back.

What llama-server 0.3.36 keeps of `id_slot` and `cache_prompt` decides which these are (tools/server/ of llama.cpp):

- `/v1/chat/completions` keeps both: `oaicompat_chat_params_parse` (server-common.cpp) copies every field that it does not know.
- `/v1/responses` keeps both: `server_chat_convert_responses_to_chatcmpl` (server-chat.cpp) begins with a copy of the whole body. It needs
  no conversion, and goes through as it is.
- `/v1/messages` drops both: `server_chat_convert_anthropic_to_oai` (server-chat.cpp) makes a new body of the fields that it knows. It goes
  to `/v1/chat/completions` here.
- `/v1/messages/count_tokens` takes no slot: `handle_count_tokens` (server-context.cpp) only counts. It needs no conversion.

`handle_completions_impl` (server-context.cpp) reads `id_slot` from the body that is left, server-schema.cpp reads `cache_prompt`.
"""
