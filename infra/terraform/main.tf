# RDS makes the owner's password and Terraform never sees it, but RDS makes none for a cluster of a global database: then
# Secrets Manager does, and Terraform passes it on without keeping it.
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-secrets-manager.html
ephemeral "aws_secretsmanager_secret_version" "owner" {
  count = var.aurora_global == true ? 1 : 0

  secret_id = module.aws.global_owner_secret_arn
}

module "aws" {
  source = "./modules/aws"

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  stage              = var.stage
  region             = var.region
  availability_zones = var.availability_zones

  vpc_cidr            = var.vpc_cidr
  nat_gateways        = var.nat_gateways
  nat_instance        = var.nat_instance
  ipv6_egress         = var.ipv6_egress
  interface_endpoints = var.interface_endpoints
  model_servers       = var.model_servers

  database                    = var.database
  database_now                = var.database_now
  aurora_min_capacity         = var.aurora_min_capacity
  aurora_max_capacity         = var.aurora_max_capacity
  aurora_global               = var.aurora_global
  aurora_owner_password       = one([for owner in ephemeral.aws_secretsmanager_secret_version.owner : jsondecode(owner.secret_string)["password"]])
  external_database           = var.external_database
  postgres_version            = var.postgres_version
  instance_class              = var.instance_class
  multi_az                    = var.multi_az
  allocated_storage_gb        = var.allocated_storage_gb
  max_allocated_storage_gb    = var.max_allocated_storage_gb
  backup_retention_days       = var.backup_retention_days
  backup_vault_days           = var.backup_vault_days
  backup_lock                 = var.backup_lock
  second_region               = var.second_region
  second_availability_zones   = var.second_availability_zones
  deletion_protection         = var.deletion_protection
  database_log_retention_days = var.database_log_retention_days
  proxy_enabled               = var.proxy_enabled
  database_iam_auth           = var.database_iam_auth
  kept_connections            = var.kept_connections
  apply_immediately           = var.apply_immediately
  app_password_rotation_days  = var.app_password_rotation_days

  console        = var.console
  console_domain = var.console_domain
  console_api    = var.console_api

  github_repository   = var.github_repository
  github_provider_arn = var.github_provider_arn
}
