# What AWS would answer, where the provider or the module looks at its form.

mock_resource "aws_vpc" {
  defaults = {
    arn             = "arn:aws:ec2:eu-central-1:123456789012:vpc/vpc-0123456789abcdef0"
    ipv6_cidr_block = "2600:1f14:abc:de00::/56"
  }
}

mock_resource "aws_launch_template" {
  defaults = {
    id = "lt-0123456789abcdef0"
  }
}

mock_resource "aws_iam_openid_connect_provider" {
  defaults = {
    arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
  }
}

mock_resource "aws_cloudformation_stack" {
  defaults = {
    outputs = {
      AppSecretArn   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:app"
      AdminKeyArn    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin"
      KeyArn         = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
      OwnerSecretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:own"
      VaultArn       = "arn:aws:backup:eu-central-1:123456789012:backup-vault:fusewire-test"
      KeyId          = "11111111-2222-3333-4444-555555555555"
    }
  }
}

mock_resource "aws_secretsmanager_secret" {
  defaults = {
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:keys"
  }
}

mock_resource "aws_iam_role" {
  defaults = {
    arn = "arn:aws:iam::123456789012:role/proxy"
  }
}

mock_resource "aws_db_instance" {
  defaults = {
    arn                = "arn:aws:rds:eu-central-1:123456789012:db:fusewire-test"
    address            = "fusewire-test.abc.eu-central-1.rds.amazonaws.com"
    resource_id        = "db-ABCDEFGHIJKL"
    master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:owner" }]
  }
}

mock_resource "aws_rds_cluster" {
  defaults = {
    arn                 = "arn:aws:rds:eu-central-1:123456789012:cluster:fusewire-test"
    endpoint            = "fusewire-test.cluster-abc.eu-central-1.rds.amazonaws.com"
    cluster_resource_id = "cluster-ABCDEFGHIJKL"
    master_user_secret  = [{ secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:owner" }]
  }
}

mock_resource "aws_db_proxy_default_target_group" {
  defaults = {
    name = "default"
  }
}

mock_resource "aws_db_proxy" {
  defaults = {
    arn      = "arn:aws:rds:eu-central-1:123456789012:db-proxy:prx-0123456789abcdef0"
    endpoint = "fusewire-test.proxy-abc.eu-central-1.rds.amazonaws.com"
  }
}

mock_resource "aws_s3_bucket" {
  defaults = {
    arn = "arn:aws:s3:::console"
  }
}

mock_resource "aws_cloudfront_distribution" {
  defaults = {
    arn         = "arn:aws:cloudfront::123456789012:distribution/EDFDVBD6EXAMPLE"
    domain_name = "d111111abcdef8.cloudfront.net"
  }
}

mock_data "aws_iam_policy_document" {
  defaults = {
    json = "{\"Version\": \"2012-10-17\", \"Statement\": []}"
  }
}

mock_data "aws_availability_zones" {
  defaults = {
    names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  }
}
