"""The calls of the test group `vendor-sdks` with the official package `openai`, over chat completions."""

import base64
import json

import openai
from openai import pydantic_function_tool
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

import harness
from harness import MAX_TOKENS, Time, Verdict, WEATHER, Weather

MODEL = "gpt-6-luna"
QUESTION = {"role": "user", "content": "How warm is it in Oslo and in Rome?"}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": WEATHER, "parameters": Weather.model_json_schema()},
    },
    pydantic_function_tool(Time, name="time"),
]


class Calls:
    def __init__(self, address):
        self.client = openai.OpenAI(
            base_url=f"{address}/v1", api_key="sk-test-0123456789", max_retries=0, _strict_response_validation=True
        )
        self.replies = []

    def ask(self, messages=(QUESTION,), method="create", **more):
        call = getattr(self.client.chat.completions, method)
        reply = call(model=MODEL, max_completion_tokens=MAX_TOKENS, messages=list(messages), **more)
        self.replies.append(read(reply))
        return reply

    def stream(self, messages, **more):
        completions = self.client.chat.completions
        with completions.stream(model=MODEL, max_completion_tokens=MAX_TOKENS, messages=list(messages), **more) as stream:
            reply = stream.get_final_completion()
        self.replies.append(read(reply))
        return reply

    def converse(self, turns, ask=ask, **more):
        """Sends each reply back with the results of its calls."""
        messages = [QUESTION]
        for _ in range(turns):
            message = ask(self, messages, **more).choices[0].message
            messages.append(message)
            for call in message.tool_calls:
                text, is_error = harness.run_tool(call.function.name, json.loads(call.function.arguments))
                text = f"Error: {text}" if is_error else text
                messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
            messages.append({"role": "user", "content": "Go on."})
        self.ask(messages, **more)


def read(reply):
    message = reply.choices[0].message
    calls = message.tool_calls or []
    return {
        "texts": [message.content] if message.content else [],
        "calls": [[call.id, call.function.name, json.loads(call.function.arguments)] for call in calls],
        "quotes": [],
        "input": reply.usage.prompt_tokens,
        "output": reply.usage.completion_tokens,
        "searches": 0,
    }


def image():
    data = base64.standard_b64encode(bytes([1, 2, 3])).decode()
    url = {"url": f"data:image/png;base64,{data}"}
    return [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": url}]}
    ]


CASES = {
    "text": lambda calls: calls.ask(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": [{"type": "text", "text": "Name"}, {"type": "text", "text": "a color."}]},
        ]
    ),
    "schema": lambda calls: calls.ask(method="parse", response_format=Verdict),
    "effort": lambda calls: calls.ask(reasoning_effort="high"),
    "effort-and-schema": lambda calls: calls.ask(method="parse", reasoning_effort="low", response_format=Verdict),
    "stop": lambda calls: calls.ask(stop=["END", "\n\n"]),
    "thinking-off": lambda calls: calls.ask(reasoning_effort="none"),
    "image": lambda calls: calls.ask(image()),
    "refusal": lambda calls: calls.ask(),
    "cut-off": lambda calls: calls.ask(),
    "tools": lambda calls: calls.ask(tools=TOOLS),
    "choice-auto": lambda calls: calls.ask(tools=TOOLS, tool_choice="auto"),
    "choice-any": lambda calls: calls.ask(tools=TOOLS, tool_choice="required"),
    "choice-none": lambda calls: calls.ask(tools=TOOLS, tool_choice="none"),
    "choice-of-one": lambda calls: calls.ask(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "time"}}),
    "one-call": lambda calls: calls.ask(tools=TOOLS, parallel_tool_calls=False),
    "any-one-call": lambda calls: calls.ask(tools=TOOLS, tool_choice="required", parallel_tool_calls=False),
    "called": lambda calls: calls.converse(1, tools=TOOLS),
    "loop": lambda calls: calls.converse(2, tools=TOOLS),
    "loop-signed": lambda calls: calls.converse(1, tools=TOOLS),
    "streamed-loop": lambda calls: calls.converse(2, ask=Calls.stream, tools=TOOLS),
    "streamed-loop-signed": lambda calls: calls.converse(1, ask=Calls.stream, tools=TOOLS),
}


harness.main(CASES, Calls, CompletionCreateParamsNonStreaming)
