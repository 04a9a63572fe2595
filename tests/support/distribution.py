"""A CloudFront distribution in moto, as far as a deployment of the console needs one."""

from typing import Any


def make_distribution(client: Any, bucket: str) -> str:  # noqa: ANN401 - boto3 has no types
    """:return: the id of a CloudFront distribution before a bucket, as moto makes it"""
    origin = {"Id": "files", "DomainName": f"{bucket}.s3.amazonaws.com", "S3OriginConfig": {"OriginAccessIdentity": ""}}
    made = client.create_distribution(
        DistributionConfig={
            "CallerReference": bucket,
            "Origins": {"Quantity": 1, "Items": [origin]},
            "DefaultCacheBehavior": {"TargetOriginId": "files", "ViewerProtocolPolicy": "redirect-to-https"},
            "Comment": "",
            "Enabled": True,
        }
    )
    return str(made["Distribution"]["Id"])
