# The functions' connections are many and short-lived; the proxy's to Postgres are few and stay. It knows the app role's
# secret alone: `migrate` goes to the instance. A proxy takes passwords or tokens, never both, so there are two of them
# while the functions are moved from one to the other.

locals {
  proxies = { for way in local.ways : trimprefix(way, "proxy-") => "${local.name}${way == "proxy-iam" ? "-iam" : ""}" if startswith(way, "proxy-") }
  proxied = length(local.proxies) > 0
}

resource "aws_cloudwatch_log_group" "proxy" {
  for_each = local.proxies

  name              = "/aws/rds/proxy/${each.value}"
  retention_in_days = var.database_log_retention_days
}

data "aws_iam_policy_document" "proxy_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["rds.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "proxy" {
  statement {
    actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    resources = [local.app_secret_arn]
  }

  statement {
    actions   = ["kms:Decrypt"]
    resources = [local.key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${var.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "proxy" {
  count = local.proxied ? 1 : 0

  name_prefix        = "${local.name}-proxy-"
  description        = "RDS Proxy reads the app role's secret"
  assume_role_policy = data.aws_iam_policy_document.proxy_trust.json
}

resource "aws_iam_role_policy" "proxy" {
  count = local.proxied ? 1 : 0

  name_prefix = "app-secret-"
  role        = aws_iam_role.proxy[0].id
  policy      = data.aws_iam_policy_document.proxy.json
}

resource "aws_db_proxy" "this" {
  for_each = local.proxies

  name                   = each.value
  engine_family          = "POSTGRESQL"
  role_arn               = aws_iam_role.proxy[0].arn
  vpc_subnet_ids         = aws_subnet.database[*].id
  vpc_security_group_ids = [aws_security_group.proxy[0].id]
  require_tls            = true
  debug_logging          = false # it would log statements
  idle_client_timeout    = 1800  # seconds; a frozen execution environment comes back to a closed connection and renews it

  auth {
    auth_scheme               = "SECRETS"
    secret_arn                = local.app_secret_arn
    iam_auth                  = each.key == "iam" ? "REQUIRED" : "DISABLED"
    client_password_auth_type = each.key == "iam" ? null : "POSTGRES_SCRAM_SHA_256"
  }

  depends_on = [aws_iam_role_policy.proxy, aws_cloudwatch_log_group.proxy]
}

resource "aws_db_proxy_default_target_group" "this" {
  for_each = local.proxies

  db_proxy_name = aws_db_proxy.this[each.key].name

  connection_pool_config {
    max_connections_percent      = 80 # the rest is for `migrate` and for whoever is called at night
    max_idle_connections_percent = 20
    connection_borrow_timeout    = 5 # seconds; a call that can't book is refused, and soon
  }
}

resource "aws_db_proxy_target" "this" {
  for_each = local.proxies

  db_proxy_name          = aws_db_proxy.this[each.key].name
  target_group_name      = aws_db_proxy_default_target_group.this[each.key].name
  db_instance_identifier = local.rds ? aws_db_instance.this[0].identifier : null
  db_cluster_identifier  = local.aurora ? aws_rds_cluster.this[0].cluster_identifier : null

  depends_on = [aws_rds_cluster_instance.this]
}
