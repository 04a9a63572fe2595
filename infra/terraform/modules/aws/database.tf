# A stage that is destroyed and made again keeps the final snapshot and the secrets' names of its former life.
resource "terraform_data" "life" {}

locals {
  life = substr(terraform_data.life.id, 0, 8)
}

locals {
  # Which Postgres, and where the functions find it; "none" for one that Terraform doesn't make.
  rds      = var.database == "rds"
  aurora   = var.database == "aurora"
  external = var.database == "external"

  database_address     = local.rds ? aws_db_instance.this[0].address : local.aurora ? aws_rds_cluster.this[0].endpoint : "none"
  database_arn         = local.rds ? aws_db_instance.this[0].arn : local.aurora ? aws_rds_cluster.this[0].arn : null
  database_resource_id = local.rds ? aws_db_instance.this[0].resource_id : local.aurora ? aws_rds_cluster.this[0].cluster_resource_id : "none"
  database_instance    = local.rds ? aws_db_instance.this[0].identifier : local.aurora ? aws_rds_cluster_instance.this[0].identifier : "none"
  final_snapshot       = local.external ? null : "${local.name}-final-${local.life}"

  parameters_of_postgres = {
    "rds.force_ssl" = "1"

    # A statement's parameters can hold what is nobody's business: where a statement is logged, they aren't.
    log_parameter_max_length = "0"
  }

  log_groups = (
    local.rds ? { for name in ["postgresql", "upgrade"] : name => "/aws/rds/instance/${local.name}/${name}" } :
    local.aurora ? { postgresql = "/aws/rds/cluster/${local.name}/postgresql" } : {}
  )
}

resource "aws_db_subnet_group" "this" {
  count = local.external ? 0 : 1

  name       = local.name
  subnet_ids = aws_subnet.database[*].id
}

resource "aws_db_parameter_group" "this" {
  count = local.rds ? 1 : 0

  name_prefix = "${local.name}-postgres${var.postgres_version}-"
  description = "fusewire ${var.stage}"
  family      = "postgres${var.postgres_version}"

  dynamic "parameter" {
    for_each = local.parameters_of_postgres

    content {
      name  = parameter.key
      value = parameter.value
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

# Made here, and before the instance, so that they are not kept for ever.
resource "aws_cloudwatch_log_group" "postgres" {
  for_each = local.log_groups

  name              = each.value
  retention_in_days = var.database_log_retention_days
}

resource "aws_db_instance" "this" {
  count = local.rds ? 1 : 0

  identifier     = local.name
  engine         = "postgres"
  engine_version = var.postgres_version
  instance_class = var.instance_class
  multi_az       = var.multi_az

  db_name                             = local.database_name
  port                                = local.port
  username                            = "fusewire_owner"
  manage_master_user_password         = true
  master_user_secret_kms_key_id       = local.key_arn
  iam_database_authentication_enabled = true # a role uses it once it is a member of rds_iam; to switch it would wait for the window

  db_subnet_group_name   = aws_db_subnet_group.this[0].name
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false
  parameter_group_name   = aws_db_parameter_group.this[0].name
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  storage_type          = "gp3"
  allocated_storage     = var.allocated_storage_gb
  max_allocated_storage = var.max_allocated_storage_gb
  storage_encrypted     = true
  kms_key_id            = local.key_arn

  # UTC; backups and maintenance keep out of each other's way, and of the month's first minutes in most time zones.
  backup_retention_period   = var.backup_retention_days
  backup_window             = "03:10-04:10"
  maintenance_window        = "sun:04:30-sun:05:30"
  copy_tags_to_snapshot     = true
  delete_automated_backups  = false
  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = local.final_snapshot

  # Else a change that restarts Postgres, such as a larger class, waits for the maintenance window.
  apply_immediately           = var.apply_immediately
  auto_minor_version_upgrade  = true
  allow_major_version_upgrade = false

  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]
  performance_insights_enabled          = true
  performance_insights_retention_period = 7
  performance_insights_kms_key_id       = local.key_arn

  depends_on = [aws_cloudwatch_log_group.postgres]
}
