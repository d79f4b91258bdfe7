"""The calls of the test group `vendor-sdks` with the official package `openai`, over the Responses API."""

import base64
import json

import openai
from openai import pydantic_function_tool
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

import harness
from harness import MAX_TOKENS, Time, Verdict, WEATHER, Weather

MODEL = "gpt-6-luna"
QUESTION = {"role": "user", "content": "How warm is it in Oslo and in Rome?"}
TOOLS = [
    {
        "type": "function",
        "name": "weather",
        "description": WEATHER,
        "parameters": Weather.model_json_schema(),
        "strict": False,
    },
    {"type": "function", **pydantic_function_tool(Time, name="time")["function"]},
]
SEARCH = {"type": "web_search", "filters": {"allowed_domains": ["example.com"]}}
# A conversation without state at the service needs these.
ENCRYPTED = "reasoning.encrypted_content"
SOURCES = "web_search_call.action.sources"


class Calls:
    def __init__(self, address):
        self.client = openai.OpenAI(
            base_url=f"{address}/v1", api_key="sk-test-0123456789", max_retries=0, _strict_response_validation=True
        )
        self.replies = []

    def ask(self, items=(QUESTION,), method="create", **more):
        call = getattr(self.client.responses, method)
        reply = call(model=MODEL, max_output_tokens=MAX_TOKENS, store=False, input=list(items), **more)
        self.replies.append(read(reply))
        return reply

    def tools(self, **more):
        return self.ask(tools=TOOLS, include=[ENCRYPTED], **more)

    def stream(self, items, **more):
        call = self.client.responses.stream(
            model=MODEL, max_output_tokens=MAX_TOKENS, store=False, input=list(items), **more
        )
        with call as stream:
            reply = stream.get_final_response()
        self.replies.append(read(reply))
        return reply

    def converse(self, turns, ask=ask, **more):
        """Sends each reply back with the results of its calls."""
        items = [QUESTION]
        for _ in range(turns):
            output = ask(self, items, **more).output
            items.extend(output)
            for item in output:
                if item.type == "function_call":
                    text, is_error = harness.run_tool(item.name, json.loads(item.arguments))
                    text = f"Error: {text}" if is_error else text
                    items.append({"type": "function_call_output", "call_id": item.call_id, "output": text})
            items.append({"role": "user", "content": "Go on."})
        self.ask(items, **more)


def read(reply):
    calls = [item for item in reply.output if item.type == "function_call"]
    contents = [part for item in reply.output if item.type == "message" for part in item.content]
    usage = reply.tool_usage
    return {
        "texts": [part.text for part in contents if part.type == "output_text"],
        "calls": [[item.call_id, item.name, json.loads(item.arguments)] for item in calls],
        "quotes": [],
        "input": reply.usage.input_tokens,
        "output": reply.usage.output_tokens,
        "searches": usage.web_search.num_requests if usage else 0,
    }


def image():
    data = base64.standard_b64encode(bytes([1, 2, 3])).decode()
    part = {"type": "input_image", "image_url": f"data:image/png;base64,{data}", "detail": "auto"}
    return [{"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, part]}]


CASES = {
    "text": lambda calls: calls.ask(
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "Name"}, {"type": "input_text", "text": "a color."}],
            },
        ],
        instructions="Be brief.",
    ),
    "schema": lambda calls: calls.ask(method="parse", text_format=Verdict),
    "effort": lambda calls: calls.ask(reasoning={"effort": "high"}),
    "effort-and-schema": lambda calls: calls.ask(method="parse", reasoning={"effort": "low"}, text_format=Verdict),
    "thinking-off": lambda calls: calls.ask(reasoning={"effort": "none"}),
    "image": lambda calls: calls.ask(image()),
    "refusal": lambda calls: calls.ask(),
    "cut-off": lambda calls: calls.ask(),
    "tools": lambda calls: calls.tools(),
    "choice-auto": lambda calls: calls.tools(tool_choice="auto"),
    "choice-any": lambda calls: calls.tools(tool_choice="required"),
    "choice-none": lambda calls: calls.tools(tool_choice="none"),
    "choice-of-one": lambda calls: calls.tools(tool_choice={"type": "function", "name": "time"}),
    "one-call": lambda calls: calls.tools(parallel_tool_calls=False),
    "any-one-call": lambda calls: calls.tools(tool_choice="required", parallel_tool_calls=False),
    "called": lambda calls: calls.converse(1, tools=TOOLS, include=[ENCRYPTED]),
    "loop": lambda calls: calls.converse(2, tools=TOOLS, include=[ENCRYPTED]),
    "streamed-loop": lambda calls: calls.converse(2, ask=Calls.stream, tools=TOOLS, include=[ENCRYPTED]),
    "streamed-search": lambda calls: calls.converse(
        1, ask=Calls.stream, tools=[SEARCH], max_tool_calls=3, include=[ENCRYPTED, SOURCES]
    ),
    "search": lambda calls: calls.converse(1, tools=[SEARCH], max_tool_calls=3, include=[ENCRYPTED, SOURCES]),
    "failed-search": lambda calls: calls.converse(1, tools=[SEARCH], max_tool_calls=3, include=[ENCRYPTED, SOURCES]),
    "search-and-tools": lambda calls: calls.converse(
        1, tools=[*TOOLS, SEARCH], max_tool_calls=3, include=[ENCRYPTED, SOURCES]
    ),
}


harness.main(CASES, Calls, ResponseCreateParamsNonStreaming)
