"""`python transform.py TEMPLATE`, in .venv-infra: prints what SAM's translator makes of it, as CloudFormation does."""

import json
import sys
from pathlib import Path

import boto3  # type: ignore[import-untyped]
from samcli.yamlhelper import yaml_parse  # type: ignore[import-not-found]
from samtranslator.parser.parser import Parser  # type: ignore[import-not-found]
from samtranslator.translator.translator import Translator  # type: ignore[import-not-found]

template = yaml_parse(Path(sys.argv[1]).read_text(encoding="utf-8"))
for resource in template["Resources"].values():
    for name in ("CodeUri", "ContentUri"):
        if name in resource.get("Properties", {}):
            resource["Properties"][name] = "s3://bucket/key"  # as `sam deploy` uploads it
session = boto3.session.Session(region_name="eu-central-1")
made = Translator({}, Parser(), boto_session=session).translate(template, {})
sys.stdout.write(json.dumps(made))
