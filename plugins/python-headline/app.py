"""Finds a headline for an article: one model call, and the bounds of the answer checked."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.task import Article, Headline
from wit_world.imports import llm, types


class Task(exports.Task):
    async def run(self, input: Article) -> Headline:
        most = input.max_words or 8
        prompt = f"Write one headline of at most {most} words. Answer with the headline alone.\n\n{input.text}"
        request = llm.Request(
            model="fast",
            system=None,
            messages=[llm.Message(llm.Role.USER, [llm.Part_Text(prompt)])],
            max_tokens=60,
            schema=None,
            options=[],
        )
        try:
            reply = await llm.complete(request)
        except Err as error:
            raise Err(failure(error.value)) from error
        text = "".join(part.value for part in reply.content if isinstance(part, llm.Part_Text)).strip().rstrip(".")
        words = len(text.split())
        if words > most:
            raise Err(types.Failure_Failed(f"the model gave {words} words instead of at most {most}"))
        return Headline(text, words)


def failure(error: llm.Error) -> types.Failure:
    """Returns the failure of the task for an error of a model call."""
    match error:
        case llm.Error_Denied(why):
            return types.Failure_Denied(why)
        case llm.Error_Exhausted(limit):
            return types.Failure_Exhausted(limit)
        case llm.Error_ContextOverflow():
            return types.Failure_ContextOverflow()
        case llm.Error_Other(other):
            return types.Failure_Other(other)
        case _:
            return types.Failure_Model(error.value)
