"""LlamaIndex's embeddings of OpenAI's, by their defaults."""

import os
import sys

from llama_index.embeddings.openai import OpenAIEmbedding

from tests.clients.programs.tools import report

[model] = sys.argv[1:]


def main() -> dict[str, object]:
    embeddings = OpenAIEmbedding(model_name=model, api_base=os.environ["OPENAI_BASE_URL"])
    vectors = embeddings.get_text_embedding_batch(["Hello", "World"])
    return {"vectors": vectors, "query": embeddings.get_query_embedding("Hello")}


report(main)
