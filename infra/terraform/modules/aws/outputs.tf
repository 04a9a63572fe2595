# What infra/template.yaml is given: database_host as DatabaseHost. The names are listed in infra/terraform/README.md and
# don't change lightly: a parameter that goes away breaks the next deployment of the functions.

locals {
  # arn:PARTITION:rds:REGION:ACCOUNT:db-proxy:prx-... or ...:db:NAME; an IAM token is good for one host and one role.
  host_arn    = split(":", var.proxy_enabled ? aws_db_proxy.this[0].arn : aws_db_instance.this.arn)
  resource_id = var.proxy_enabled ? element(local.host_arn, 6) : aws_db_instance.this.resource_id

  private_subnet_ids = join(",", aws_subnet.private[*].id)

  parameters = {
    vpc_id                    = aws_vpc.this.id
    private_subnet_id_1       = aws_subnet.private[0].id
    private_subnet_id_2       = aws_subnet.private[1].id
    lambda_security_group_id  = aws_security_group.lambda.id
    migrate_security_group_id = aws_security_group.migrate.id
    database_host             = var.proxy_enabled ? aws_db_proxy.this[0].endpoint : aws_db_instance.this.address
    database_owner_host       = aws_db_instance.this.address
    database_port             = tostring(local.port)
    database_name             = local.database_name
    database_user             = local.app_user
    database_iam_auth         = tostring(var.database_iam_auth)
    database_app_iam          = tostring(var.database_iam_auth && !var.proxy_enabled)
    database_connect_arn      = "arn:${local.host_arn[1]}:rds-db:${local.host_arn[3]}:${local.host_arn[4]}:dbuser:${local.resource_id}/${local.app_user}"
    database_instance_id      = aws_db_instance.this.identifier
    database_proxy_name       = var.proxy_enabled ? aws_db_proxy.this[0].name : "none"
    database_owner_secret_arn = aws_db_instance.this.master_user_secret[0].secret_arn
    database_app_secret_arn   = local.app_secret_arn
    admin_api_key_secret_arn  = aws_cloudformation_stack.secrets.outputs["AdminKeyArn"]
    provider_keys_secret_arn  = aws_secretsmanager_secret.provider_keys.arn
    kms_key_arn               = aws_kms_key.this.arn
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
  depends_on = [aws_route.private, aws_db_proxy_target.this]
}

output "parameters" {
  description = "What the SSM parameters hold, by name under /fusewire/<stage>/. No value is secret."
  value       = merge(local.parameters, { private_subnet_ids = local.private_subnet_ids })
}

output "final_snapshot_identifier" {
  description = "The snapshot that a destroy leaves behind."
  value       = aws_db_instance.this.final_snapshot_identifier
}

output "nat_addresses" {
  description = "The public addresses that the vendors see, for their allow-lists."
  value       = aws_eip.nat[*].public_ip
}
