"""The requests of the small host's and the GPU server's documents, as they stand there, get the documented answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from paddock_gateway.metrics import Metrics
from tests.unit.gateway.apis.stubs import Stage, configuration, served

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
"""What curl says with -d where nobody says more."""

GENERATE = (
    '{"prompt": "Explain gravity in one sentence.", "max_tokens": 96, "stream": true}',
    '{"prompt": "What is 2+2?", "max_tokens": 32, "stream": false}',
    """{"prompt": "What is photosynthesis?",
        "system": "You are a science teacher explaining to a 5-year-old. Use simple words and be enthusiastic.",
        "max_tokens": 96, "stream": false}""",
    r"""{"prompt": "Write a haiku about coding", "system": "You are a creative writing assistant", "max_tokens": 100,
        "temperature": 0.8, "top_p": 0.9, "top_k": 40, "stop": ["\n\n"], "stream": true}""",
    r"""{"prompt": "Explain gravity in one sentence.", "system": "You are a helpful assistant", "max_tokens": 160,
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "stop": ["\n"], "stream": true}""",
    '{"prompt": "Explain gravity in one sentence.", "stream": true}',
    '{"prompt": "What is 2+2?", "stream": false}',
    """{"prompt": "Tell me about the solar system",
        "system": "You are an enthusiastic astronomy professor. Be engaging and use analogies.", "stream": false}""",
)
BENCHMARK = (
    """{"prompt": "Explain photosynthesis in two short sentences.", "max_tokens": 160, "runs": 2, "context_sizes": [512, 1024]}""",
    """{"prompt": "Explain photosynthesis in two short sentences.", "max_tokens": 160, "temperature": 0.2, "top_p": 0.9, "top_k": 40,
        "runs": 2, "context_sizes": [512, 1024]}""",
)
OWNERS = ('{"owner": "my-device"}', '{"owner": "my-device"}', '{"owner": "Device Name"}', '{"owner": "External Device 1"}')


def test_the_small_hosts_document() -> None:
    async def go() -> None:
        async with served(Stage().parts) as client:
            async with client.get("/health") as response:
                assert (response.status, set(await response.json())) == (
                    200,
                    {"status", "model_loaded", "model_path", "queue_size", "active_requests", "max_concurrent"},
                )
            for body in OWNERS:
                async with client.post("/keys/generate", data=body, headers=JSON) as response:
                    made = await response.json()
                    assert (response.status, made["owner"]) == (200, json.loads(body)["owner"])
            key = JSON | {"X-API-Key": made["api_key"]}
            for body in GENERATE:
                async with client.post("/generate", data=body, headers=key) as response:
                    text = await response.text()
                    assert response.status == 200
                    if json.loads(body)["stream"]:
                        assert [line for line in text.splitlines() if line.startswith("event:")] == [
                            "event: token",
                            "event: token",
                            "event: done",
                        ]
                    else:
                        assert set(json.loads(text)) == {"text", "prompt_tokens", "completion_tokens", "total_tokens"}
            for body in BENCHMARK:
                async with client.post("/benchmark", data=body, headers=key) as response:
                    assert response.status == 200
                    _like_the_documents(await response.json())

    asyncio.run(go())


def _like_the_documents(told: Any) -> None:
    assert set(told) == {"model", "runs", "prompt_chars", "profiles", "recommended"}
    assert (told["model"], told["runs"], [profile["context_size"] for profile in told["profiles"]]) == ("qwen2.5:3b", 2, [512, 1024])
    averages = {"avg_latency_ms", "avg_ttft_ms", "avg_completion_tokens", "avg_completion_tokens_per_second"}
    assert all(set(profile) == {"context_size", "runs", *averages} for profile in told["profiles"])
    assert set(told["recommended"]) == {"env", "request_defaults", "reason"}
    assert set(told["recommended"]["env"]) == {"N_CTX", "MAX_TOKENS", "N_THREADS", "OLLAMA_KEEP_ALIVE"}
    assert set(told["recommended"]["request_defaults"]) == {"max_tokens", "stream"}


def test_the_gpu_servers_document(tmp_path: Path) -> None:
    (tmp_path / "master").write_text("sk-master")
    names = ("heartcode-chat-sfw", "heartcode-chat-nsfw", "heartcode-embed", "heartcode-image")
    models = {name: {"targets": [{"backend": "one", "model": name}]} for name in names}
    stage = Stage(observer=Metrics(configuration()), master_key_file=str(tmp_path / "master"), models=models, pi=None)

    async def go() -> None:
        async with served(stage.parts) as client:
            async with client.post(
                "/key/generate",
                data='{"models":["heartcode-chat-sfw","heartcode-chat-nsfw","heartcode-embed","heartcode-image"],"key_alias":"test"}',
                headers=FORM | {"Authorization": "Bearer sk-master"},
            ) as response:
                made = await response.json()
                assert (response.status, made["key"][:3], made["key_alias"], made["models"]) == (200, "sk-", "test", list(names))
            async with client.get("/model/info", headers={"Authorization": f"Bearer {made['key']}"}) as response:
                assert [model["model_name"] for model in (await response.json())["data"]] == list(names)

    asyncio.run(go())
