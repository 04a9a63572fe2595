# What infra/template.yaml is given: database_host as DatabaseHost. The names are listed in infra/terraform/README.md and
# don't change lightly: a parameter that goes away breaks the next deployment of the functions.

locals {
  proxy = one([for kind, proxy in aws_db_proxy.this : proxy if local.wanted_way == "proxy-${kind}"])
  user  = local.wanted_way == "direct-iam" ? local.token_user : local.app_user

  # An IAM token is good for one host and one role. Without tokens, too, for the template's policy names a resource.
  connect_arns = distinct([for way in concat([local.wanted_way], sort(var.kept_connections)) : join(":", [
    "arn", local.partition, "rds-db", var.region, local.account, "dbuser",
    # arn:PARTITION:rds:REGION:ACCOUNT:db-proxy:prx-...
    startswith(way, "proxy-")
    ? "${element(split(":", aws_db_proxy.this[trimprefix(way, "proxy-")].arn), 6)}/${local.app_user}"
    : "${local.database_resource_id}/${way == "direct-iam" ? local.token_user : local.app_user}",
  ])])

  private_subnet_ids = join(",", aws_subnet.private[*].id)

  parameters = {
    vpc_id                    = aws_vpc.this.id
    private_subnet_id_1       = aws_subnet.private[0].id
    private_subnet_id_2       = aws_subnet.private[1].id
    lambda_security_group_id  = aws_security_group.lambda.id
    migrate_security_group_id = aws_security_group.migrate.id
    database_host             = local.proxy != null ? local.proxy.endpoint : local.database_address
    database_owner_host       = local.database_address
    ipv6_egress               = !var.ipv6_egress ? "off" : local.public_subnets > 0 ? "beside" : "alone"
    database_kind             = var.database
    database_connect_seconds  = tostring(local.connect_seconds)
    database_port             = tostring(local.port)
    database_name             = local.database_name
    database_user             = local.user
    database_iam_auth         = tostring(var.database_iam_auth)
    database_app_iam          = tostring(local.wanted_way == "direct-iam")
    database_connections      = join(",", distinct(concat([local.wanted_way], sort(var.kept_connections))))
    database_connect_arn      = join(",", local.connect_arns)
    database_instance_id      = local.database_instance
    database_proxy_name       = local.proxy != null ? local.proxy.name : "none"
    database_owner_secret_arn = local.owner_secret_arn
    database_app_secret_arn   = local.app_secret_arn
    admin_api_key_secret_arn  = aws_cloudformation_stack.secrets.outputs["AdminKeyArn"]
    provider_keys_secret_arn  = aws_secretsmanager_secret.provider_keys.arn
    kms_key_arn               = local.key_arn
    console_bucket            = var.console ? aws_s3_bucket.console[0].id : "none"
    console_distribution_id   = var.console ? aws_cloudfront_distribution.console[0].id : "none"
    console_host              = var.console ? aws_cloudfront_distribution.console[0].domain_name : "none"
    console_origin            = var.console ? "https://${local.console_host}" : "none"
  }
}

resource "aws_ssm_parameter" "this" {
  for_each = local.parameters

  name  = "/fusewire/${var.stage}/${each.key}"
  type  = "String"
  value = each.value
}

resource "aws_ssm_parameter" "private_subnet_ids" {
  name  = "/fusewire/${var.stage}/private_subnet_ids"
  type  = "StringList"
  value = local.private_subnet_ids

  # The template's stack must not come before the way out, nor before the database answers.
  depends_on = [aws_route.private, aws_route.nat_instance, aws_route.ipv6, aws_db_proxy_target.this]
}

output "parameters" {
  description = "What the SSM parameters hold, by name under /fusewire/<stage>/. No value is secret."
  value       = merge(local.parameters, { private_subnet_ids = local.private_subnet_ids })
}

output "final_snapshot_identifier" {
  description = "The snapshot that a destroy leaves behind."
  value       = local.final_snapshot
}

output "nat_addresses" {
  description = "The public addresses that the vendors see, for their allow-lists."
  value       = concat(aws_eip.nat[*].public_ip, aws_eip.nat_instance[*].public_ip)
}

output "identities" {
  description = "The ids of what the functions that are called now depend on: a change that makes one anew cuts them off."
  value = {
    database = local.rds ? aws_db_instance.this[0].id : local.aurora ? aws_rds_cluster.this[0].id : null
    proxies  = { for kind, proxy in aws_db_proxy.this : kind => proxy.id }
    rules    = { for name, rule in aws_vpc_security_group_ingress_rule.database : name => rule.id }
  }
}

output "global_owner_secret_arn" {
  description = "The secret of the owner of a global database, which needs a password from outside; null without one."
  value       = lookup(aws_cloudformation_stack.secrets.outputs, "OwnerSecretArn", null)
}
