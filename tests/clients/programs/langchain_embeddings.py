"""LangChain's embeddings of OpenAI's, by its defaults: it sends ids of tokens."""

import sys

import openai
from langchain_openai import OpenAIEmbeddings

from tests.clients.programs.tools import report

model, checked = sys.argv[1:]


def main() -> dict[str, object]:
    embeddings = OpenAIEmbeddings(
        model=model, **({} if checked == "default" else {"check_embedding_ctx_length": False})
    )
    return {"vectors": embeddings.embed_documents(["Hello", "World"]), "query": embeddings.embed_query("Hello")}


report(main, openai.APIStatusError)
