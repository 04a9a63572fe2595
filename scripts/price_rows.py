"""Prices that genai-prices lacks, or has for another host or region, each with its source. The snapshot takes them in.

USD per million tokens. A row is here because a vendor publishes it for exactly this host and place; what nobody
publishes has no row, and such a model is refused until the operator prices it. A source is first-hand where it names
the vendor's own page or price list, or a copy that a program made of it. Otherwise it says who wrote the vendor's
prices down, and who else has the same; where two of them disagree, there is no row. To change one: read the source
again, change the row, run `python -m scripts.snapshot_prices` and `make prices-compared`, read both diffs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

AZURE_METERS: Final = (
    "second-hand: LiteLLM 1.108.7, which names the Global deployments' meters of "
    "https://prices.azure.com/api/retail/prices; checked against Portkey's models (2026-08-21)"
)
AZURE_UNCHECKED: Final = (
    "second-hand: LiteLLM 1.108.7, which names Azure's meters or Azure's page of the models that it sells; not "
    "checked, since nobody else has it"
)
AZURE_LIST: Final = (
    "https://prices.azure.com/api/retail/prices, as nikklavzar/azure-genai-prices copied it on 2026-07-31; "
    "LiteLLM 1.108.7 has the same"
)
BEDROCK_PAGE: Final = (
    "https://aws.amazon.com/bedrock/pricing/, as ajinkyak423/aws-bedrock-pricing-data read it on 2026-07-24; "
    "LiteLLM 1.108.7 has the same"
)
BEDROCK_EMBED_3: Final = (
    "second-hand: LiteLLM 1.108.7; not checked: https://aws.amazon.com/bedrock/pricing/ has it no more"
)
BEDROCK_LIST: Final = (
    "AWS's price list, offer AmazonBedrock, published 2026-08-20, as aToy0m0/bedrock-pricing converts it; "
    "Portkey's models (2026-08-21) have the same, but for Llama 3, which is not there"
)
BEDROCK_GOVERNMENT: Final = "second-hand: LiteLLM 1.108.7; checked against Portkey's models (2026-08-21)"
BEDROCK_TIERS: Final = (
    "https://aws.amazon.com/bedrock/pricing/, as ajinkyak423/aws-bedrock-pricing-data read it on 2026-07-24: "
    "Priority 75 % above Standard and Flex 50 % below, for each of these models"
)
OPENAI_FAST: Final = (
    "https://openai.com/api-fast-mode/ and, under its name of before, https://openai.com/api-priority-processing/"
)
OPENAI_FLEX: Final = (
    "https://developers.openai.com/api/docs/guides/flex-processing: at the Batch API's rates, half the standard "
    "ones. Which models have it is second-hand: LiteLLM 1.108.7"
)
OPENAI_GPT_6: Final = (
    "second-hand: LiteLLM 1.108.7; checked against what others read on OpenAI's pages of these models. The page "
    "of GPT-6.2 Sol (https://developers.openai.com/api/docs/models/gpt-6.2-sol) has the same factors"
)
AZURE_TIERS: Final = (
    "priority: the meters with PP in their names at https://prices.azure.com/api/retail/prices, as "
    "nikklavzar/azure-genai-prices copied them on 2026-07-31. flex: half, by "
    "https://learn.microsoft.com/azure/foundry/openai/how-to/flex-processing; a model that lacks it is a 400 "
    "there"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One model's price at one vendor."""

    source: str
    input: str
    output: str | None = None
    """None: an embedding."""
    cached_input: str | None = None
    above: int | None = None
    """With more input tokens than this, everything costs twice as much."""
    names: tuple[str, ...] = ()
    """The model's other names there."""


AZURE: Final[Mapping[str, Row]] = {
    "deepseek-v3": Row(AZURE_METERS, "1.14", "4.56"),
    "deepseek-v3-0324": Row(AZURE_METERS, "1.14", "4.56"),
    "deepseek-v3.1": Row(AZURE_METERS, "1.23", "4.94"),
    "deepseek-v3.2": Row(AZURE_METERS, "0.58", "1.68"),
    "deepseek-v3.2-speciale": Row(AZURE_UNCHECKED, "0.58", "1.68"),
    "deepseek-v4-flash": Row(AZURE_METERS, "0.19", "0.51", "0.028"),
    "deepseek-v4-pro": Row(AZURE_METERS, "1.74", "3.48", "0.145"),
    "gpt-oss-120b": Row(AZURE_LIST, "0.15", "0.6"),
    "grok-3": Row(AZURE_METERS, "3", "15"),
    "grok-3-mini": Row(AZURE_METERS, "0.25", "1.27"),
    "grok-4": Row(AZURE_METERS, "3", "15"),
    "grok-4-fast-reasoning": Row(AZURE_METERS, "0.2", "0.5", names=("grok-4-fast-non-reasoning",)),
    "grok-4-1-fast-reasoning": Row(AZURE_UNCHECKED, "0.2", "0.5", names=("grok-4-1-fast-non-reasoning",)),
    "grok-4.3": Row(AZURE_UNCHECKED, "1.25", "2.5", "0.2", above=200_000),
    "grok-code-fast-1": Row(AZURE_METERS, "0.2", "1.5"),
    "kimi-k2-thinking": Row(AZURE_UNCHECKED, "0.6", "2.5"),
    "kimi-k2.5": Row(AZURE_METERS, "0.6", "3", "0.1"),
    "kimi-k2.6": Row(AZURE_METERS, "0.95", "4", "0.16"),
    "kimi-k2.7-code": Row(AZURE_METERS, "0.95", "4", "0.19"),
    "llama-3.3-70b-instruct": Row(AZURE_METERS, "0.71", "0.71"),
}
"""Left out, and so refused, since LiteLLM and Portkey's models disagree: deepseek-r1 (1.35 and 5.4, or 7.08 and 2.36)
and Llama 4 Maverick (0.25 and 1, or 0.35 and 1.41)."""

BEDROCK: Final[Mapping[str, Row]] = {
    "cohere.embed-english-v3": Row(BEDROCK_EMBED_3, "0.1"),
    "cohere.embed-multilingual-v3": Row(BEDROCK_EMBED_3, "0.1"),
    "cohere.embed-v4:0": Row(BEDROCK_PAGE, "0.12", names=("us.cohere.embed-v4:0",)),
    "global.cohere.embed-v4:0": Row(BEDROCK_PAGE, "0.12"),
}

BEDROCK_REGIONS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "amazon.nova-pro-v1:0": {
        "ap-northeast-1,us-gov-west-1": ("0.96", "3.84"),
        "ap-northeast-2": ("0.95", "3.8"),
        "ap-south-1": ("0.94", "3.76"),
        "ap-southeast-1": ("1.08", "4.32"),
        "ap-southeast-2": ("0.84", "3.36"),
        "ap-southeast-4": ("0.87", "3.48"),
        "eu-central-1": ("1.05", "4.2"),
        "eu-north-1": ("0.87", "3.48"),
        "eu-south-1": ("1.28", "5.21"),
        "eu-south-2": ("0.88", "3.52"),
        "eu-west-1": ("0.92", "3.68"),
        "eu-west-2": ("1.13", "4.52"),
        "eu-west-3": ("1.18", "4.72"),
    },
    "amazon.nova-lite-v1:0": {
        "ap-northeast-1,ap-southeast-5,ap-southeast-7,us-gov-west-1": ("0.072", "0.288"),
        "ap-northeast-2,ap-south-1": ("0.071", "0.284"),
        "ap-southeast-1": ("0.081", "0.324"),
        "ap-southeast-2": ("0.063", "0.252"),
        "ap-southeast-4": ("0.065", "0.26"),
        "ca-central-1": ("0.064", "0.256"),
        "eu-central-1": ("0.078", "0.312"),
        "eu-north-1": ("0.065", "0.26"),
        "eu-south-1": ("0.096", "0.384"),
        "eu-south-2": ("0.066", "0.264"),
        "eu-west-1": ("0.069", "0.276"),
        "eu-west-2": ("0.084", "0.336"),
        "eu-west-3": ("0.088", "0.352"),
    },
    "amazon.nova-micro-v1:0": {
        "ap-northeast-1,us-gov-west-1": ("0.042", "0.168"),
        "ap-northeast-2,ap-south-1": ("0.041", "0.164"),
        "ap-southeast-1": ("0.047", "0.188"),
        "eu-central-1": ("0.046", "0.184"),
        "eu-north-1": ("0.038", "0.152"),
        "eu-south-1": ("0.056", "0.224"),
        "eu-south-2": ("0.039", "0.156"),
        "eu-west-1": ("0.04", "0.16"),
        "eu-west-2": ("0.049", "0.196"),
        "eu-west-3": ("0.052", "0.208"),
    },
    "meta.llama3-2-1b-instruct-v1:0": {
        "eu-central-1,eu-west-3": ("0.13", "0.13"),
        "eu-west-1": ("0.11", "0.11"),
    },
    "meta.llama3-2-3b-instruct-v1:0": {
        "eu-central-1": ("0.19", "0.19"),
        "eu-west-1": ("0.17", "0.17"),
        "eu-west-3": ("0.2", "0.2"),
    },
    "meta.llama3-8b-instruct-v1:0": {
        "ap-south-1": ("0.36", "0.72"),
        "ca-central-1": ("0.35", "0.69"),
        "eu-west-2": ("0.39", "0.78"),
        "sa-east-1": ("0.5", "1.01"),
    },
    "meta.llama3-70b-instruct-v1:0": {
        "ap-south-1": ("3.18", "4.2"),
        "ca-central-1": ("3.05", "4.03"),
        "eu-west-2": ("3.45", "4.55"),
        "sa-east-1": ("4.45", "5.88"),
    },
    "mistral.mistral-large-2402-v1:0": {
        "ap-south-1": ("4.8", "14.4"),
        "ap-southeast-2,eu-west-2,eu-west-3": ("5.2", "15.6"),
        "ca-central-1": ("4.6", "13.8"),
        "eu-west-1": ("4.3", "13"),
        "sa-east-1": ("6.7", "20.2"),
    },
    "openai.gpt-oss-120b-1:0": {
        "ap-northeast-1,sa-east-1": ("0.18", "0.73"),
        "ap-south-1": ("0.18", "0.71"),
        "ap-southeast-2": ("0.1545", "0.618"),
        "ap-southeast-3": ("0.16", "0.62"),
        "eu-central-1,eu-south-1": ("0.2", "0.79"),
        "eu-west-1": ("0.18", "0.7"),
        "eu-west-2": ("0.23", "0.93"),
        "us-gov-east-1,us-gov-west-1": ("0.18", "0.72"),
    },
    "openai.gpt-oss-20b-1:0": {
        "ap-northeast-1,sa-east-1": ("0.08", "0.36"),
        "ap-south-1,eu-west-1": ("0.08", "0.35"),
        "ap-southeast-2": ("0.0721", "0.309"),
        "ap-southeast-3": ("0.07", "0.31"),
        "eu-central-1,eu-south-1": ("0.09", "0.4"),
        "eu-west-2": ("0.11", "0.47"),
        "us-gov-east-1,us-gov-west-1": ("0.084", "0.36"),
    },
    "qwen.qwen3-32b-v1:0": {
        "ap-northeast-1,sa-east-1": ("0.18", "0.73"),
        "ap-south-1": ("0.18", "0.71"),
        "ap-southeast-2": ("0.1545", "0.618"),
        "ap-southeast-3": ("0.16", "0.62"),
        "eu-central-1,eu-south-1": ("0.2", "0.79"),
        "eu-west-1": ("0.18", "0.7"),
        "eu-west-2": ("0.23", "0.93"),
    },
    "qwen.qwen3-coder-30b-a3b-v1:0": {
        "ap-northeast-1,sa-east-1": ("0.18", "0.73"),
        "ap-south-1": ("0.18", "0.71"),
        "ap-southeast-2": ("0.1545", "0.618"),
        "ap-southeast-3": ("0.16", "0.62"),
        "eu-central-1,eu-south-1": ("0.2", "0.79"),
        "eu-west-1": ("0.18", "0.7"),
        "eu-west-2": ("0.23", "0.93"),
    },
}
"""(input, output) by region, from `BEDROCK_LIST`, `us-gov-` ones from `BEDROCK_GOVERNMENT`. Where the list has a price
of cached input, it is the same part of input's in each region. Left out, and so refused: Llama 3 in eu-west-1, which
AWS's list doesn't have, and Nova Micro in ap-southeast-2, of which two copies differ."""

SERVICE_TIERS: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = {
    # OPENAI_FAST, OPENAI_FLEX; GPT-6: OPENAI_GPT_6
    "openai": {
        **{
            name: {"priority": "2", "flex": "0.5"}
            for name in (
                *("gpt-5", "gpt-5.1", "gpt-5.2", "gpt-5.4-mini", "gpt-5.6-luna", "gpt-5.6-sol", "gpt-5.6-terra"),
                *("gpt-6-astra", "gpt-6-luna", "gpt-6-sol", "gpt-6.1-sol"),
            )
        },
        "gpt-4.1": {"priority": "1.75"},
        "gpt-4.1-mini": {"priority": "1.75"},
        "gpt-4.1-nano": {"priority": "2"},
        "gpt-4o": {"priority": "1.7"},
        "gpt-4o-2024-05-13": {"priority": "1.75"},
        "gpt-5-mini": {"priority": "1.8", "flex": "0.5"},
        "gpt-5-nano": {"flex": "0.5"},
        "gpt-5.4": {"priority": "2"},
        "gpt-5.4-nano": {"flex": "0.5"},
        "gpt-5.5": {"priority": "2.5", "flex": "0.5"},
        "o3": {"priority": "1.75", "flex": "0.5"},
    },
    # AZURE_TIERS
    "azure": {
        "gpt-4.1": {"priority": "1.75"},
        "gpt-5.1": {"priority": "2"},
        "gpt-5.2": {"priority": "2"},
        "gpt-5.4": {"priority": "2", "flex": "0.5"},
        "gpt-5.5": {"priority": "2.5", "flex": "0.5"},
    },
    # BEDROCK_TIERS; the models are those of "Service tiers for optimizing performance and cost" in Bedrock's guide
    "aws": {
        name: {"priority": "1.75", "flex": "0.5"}
        for name in (
            *("amazon.nova-pro-v1:0", "openai.gpt-oss-120b-1:0", "openai.gpt-oss-20b-1:0", "qwen.qwen3-32b-v1:0"),
            *("qwen.qwen3-coder-30b-a3b-v1:0", "qwen.qwen3-coder-480b-a35b-v1:0"),
        )
    },
}
"""By genai-prices' provider and model: the factor over the default tier's price. Left out, and so refused: gpt-4o-mini
and o4-mini (no round factor), gpt-5.4's flex (its cached input is 0.52 of the default's)."""

WITHDRAWN: Final[Mapping[str, Mapping[str, str]]] = {
    "openai": {
        "gpt-oss-120b": "OpenAI's API doesn't serve it: the price is another host's",
        "gpt-oss-20b": "likewise",
        "gpt-oss-safeguard-20b": "likewise",
        "gpt-5.6-cyber": "LiteLLM has a dearer price beyond 272,000 tokens, and no page that can be read settles it",
    },
}
"""genai-prices' models whose price isn't this vendor's."""

DISPUTED_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": ("eu.amazon.nova-2-lite", "jp.amazon.nova-2-lite"),
}
"""Names that genai-prices prices as another region's: the US price for Europe's and Japan's Nova 2 Lite."""

FALLBACKS: Final[Mapping[str, tuple[str, ...]]] = {"azure": ("openai",)}
"""Whose list a vendor's own is completed by, where it publishes the same prices: Azure's Global deployments of OpenAI's
models cost what they cost at OpenAI. Of genai-prices' others, none holds on Azure."""


def cached(row_input: str, list_input: str, list_cached: str) -> str:
    """A region's price of cached input, in the list's proportion to input."""
    return format((Decimal(row_input) * Decimal(list_cached) / Decimal(list_input)).normalize(), "f")
