"""The calls of the test group `vendor-sdks` with the official package `anthropic`."""

import base64

import anthropic
from anthropic import beta_tool, transform_schema
from anthropic.lib.tools import ToolError
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

import harness
from harness import MAX_TOKENS, Time, Verdict, WEATHER, Weather

MODEL = "claude-haiku-5-5"
QUESTION = {"role": "user", "content": "How warm is it in Oslo and in Rome?"}
TOOLS = [
    {"name": "weather", "description": WEATHER, "input_schema": Weather.model_json_schema()},
    {"name": "time", "input_schema": transform_schema(Time), "strict": True},
]
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3, "allowed_domains": ["example.com"]}
FETCH = {
    "type": "web_fetch_20250910",
    "name": "web_fetch",
    "max_uses": 2,
    "citations": {"enabled": True},
    "max_content_tokens": 10_000,
}


class Calls:
    def __init__(self, address):
        self.client = anthropic.Anthropic(
            base_url=address, api_key="sk-test-0123456789", max_retries=0, _strict_response_validation=True
        )
        self.replies = []

    def ask(self, messages=(QUESTION,), method="create", **more):
        call = getattr(self.client.messages, method)
        reply = call(model=MODEL, max_tokens=MAX_TOKENS, messages=list(messages), **more)
        self.replies.append(read(reply))
        return reply

    def stream(self, messages, **more):
        with self.client.messages.stream(model=MODEL, max_tokens=MAX_TOKENS, messages=list(messages), **more) as stream:
            reply = stream.get_final_message()
        self.replies.append(read(reply))
        return reply

    def converse(self, turns, answer, ask=ask, **more):
        """Sends each reply back with `answer` to it."""
        messages = [QUESTION]
        for _ in range(turns):
            reply = ask(self, messages, **more)
            messages.append(reply.to_param())
            messages.extend(answer(reply))
        self.ask(messages, **more)

    def run(self, tools):
        """Runs the SDK's own loop, which is a beta. Without a thread, nothing of the conversation stays at the service."""
        loop = self.client.beta.messages.tool_runner(
            model=MODEL, max_tokens=MAX_TOKENS, messages=[QUESTION], tools=tools, thread=False
        )
        self.replies.extend(read(reply) for reply in loop)


def read(reply):
    texts = [block for block in reply.content if block.type == "text"]
    calls = [block for block in reply.content if block.type == "tool_use"]
    usage = reply.usage
    searches = usage.server_tool_use.web_search_requests if usage.server_tool_use else 0
    return {
        "texts": [block.text for block in texts],
        "calls": [[block.id, block.name, block.input] for block in calls],
        "quotes": [citation.cited_text for block in texts for citation in block.citations or []],
        "input": usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0),
        "output": usage.output_tokens,
        "searches": searches,
    }


def results(reply):
    content = []
    for block in reply.content:
        if block.type == "tool_use":
            text, is_error = harness.run_tool(block.name, block.input)
            result = {"type": "tool_result", "tool_use_id": block.id, "content": text}
            content.append({**result, "is_error": True} if is_error else result)
    content.append({"type": "text", "text": "Go on."})
    return [{"role": "user", "content": content}]


def media(kind, mime):
    data = base64.standard_b64encode(bytes([1, 2, 3])).decode()
    return {"type": kind, "source": {"type": "base64", "media_type": mime, "data": data}}


def seen(block):
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, block]}]


def go_on(_reply):
    return [{"role": "user", "content": "Go on."}]


def runner(calls):
    @beta_tool(description=WEATHER, input_schema=Weather)
    def weather(city: str) -> str:
        text, is_error = harness.run_tool("weather", {"city": city})
        if is_error:
            raise ToolError(text)
        return text

    calls.run([weather])


CASES = {
    "text": lambda calls: calls.ask(
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": [{"type": "text", "text": "Name"}, {"type": "text", "text": "a color."}]},
        ],
        system="Be brief.",
    ),
    "schema": lambda calls: calls.ask(method="parse", output_format=Verdict),
    "effort": lambda calls: calls.ask(output_config={"effort": "high"}),
    "effort-and-schema": lambda calls: calls.ask(method="parse", output_config={"effort": "low"}, output_format=Verdict),
    "stop": lambda calls: calls.ask(stop_sequences=["END", "\n\n"]),
    "thinking-adaptive": lambda calls: calls.ask(thinking={"type": "adaptive"}),
    "thinking-off": lambda calls: calls.ask(thinking={"type": "disabled"}),
    "thinking-between-tools": lambda calls: calls.ask(thinking={"type": "between_tools"}, tools=TOOLS),
    "cache": lambda calls: calls.ask(cache_control={"type": "ephemeral", "ttl": "1h"}),
    "prefix": lambda calls: calls.ask(
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "A long text.", "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": "What is in it?"},
                ],
            }
        ]
    ),
    "image": lambda calls: calls.ask(seen(media("image", "image/png"))),
    "document": lambda calls: calls.ask(seen(media("document", "application/pdf"))),
    "refusal": lambda calls: calls.ask(),
    "cut-off": lambda calls: calls.ask(),
    "tools": lambda calls: calls.ask(tools=TOOLS),
    "choice-auto": lambda calls: calls.ask(tools=TOOLS, tool_choice={"type": "auto"}),
    "choice-any": lambda calls: calls.ask(tools=TOOLS, tool_choice={"type": "any"}),
    "choice-none": lambda calls: calls.ask(tools=TOOLS, tool_choice={"type": "none"}),
    "choice-of-one": lambda calls: calls.ask(tools=TOOLS, tool_choice={"type": "tool", "name": "time"}),
    "one-call": lambda calls: calls.ask(tools=TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True}),
    "any-one-call": lambda calls: calls.ask(tools=TOOLS, tool_choice={"type": "any", "disable_parallel_tool_use": True}),
    "called": lambda calls: calls.converse(1, results, tools=TOOLS),
    "loop": lambda calls: calls.converse(2, results, tools=TOOLS),
    "streamed-loop": lambda calls: calls.converse(2, results, ask=Calls.stream, tools=TOOLS),
    "streamed-search": lambda calls: calls.converse(1, go_on, ask=Calls.stream, tools=[SEARCH]),
    "runner": runner,
    "search": lambda calls: calls.converse(1, go_on, tools=[SEARCH]),
    "failed-search": lambda calls: calls.converse(1, go_on, tools=[SEARCH]),
    "search-and-tools": lambda calls: calls.converse(1, results, tools=[*TOOLS, SEARCH]),
    "blocked-domains": lambda calls: calls.ask(
        tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 5, "blocked_domains": ["example.com"]}]
    ),
    "fetch": lambda calls: calls.converse(1, go_on, tools=[FETCH]),
    "pause": lambda calls: calls.converse(2, lambda _reply: [], tools=[SEARCH]),
    "runner-paused": lambda calls: calls.run([SEARCH]),
}


harness.main(CASES, Calls, MessageCreateParamsNonStreaming)
