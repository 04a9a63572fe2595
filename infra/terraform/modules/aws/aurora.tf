# Aurora PostgreSQL Serverless v2, in place of RDS: the same wire and PL/pgSQL. It grows past one machine under load, and
# with aurora_min_capacity = 0 it pauses when nobody is connected:
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2-auto-pause.html

locals {
  pauses = local.aurora && var.aurora_min_capacity == 0

  # An execution environment of Lambda's that waits for its next call keeps its connection, and a connection keeps Aurora
  # awake: Postgres ends it, and the next call opens another.
  idle_parameters = local.pauses ? { idle_session_timeout = "60000" } : {} # milliseconds

  # Aurora takes about 15 seconds to resume, 30 after a day, in which it lets a connection wait.
  connect_seconds = local.pauses ? 25 : 3
}

resource "aws_rds_cluster_parameter_group" "this" {
  count = local.aurora ? 1 : 0

  name_prefix = "${local.name}-aurora-postgresql${var.postgres_version}-"
  description = "fusewire ${var.stage}"
  family      = "aurora-postgresql${var.postgres_version}"

  dynamic "parameter" {
    for_each = merge(local.parameters_of_postgres, local.idle_parameters)

    content {
      name  = parameter.key
      value = parameter.value
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_rds_cluster" "this" {
  count = local.aurora ? 1 : 0

  cluster_identifier = local.name
  engine             = "aurora-postgresql"
  engine_mode        = "provisioned" # Serverless v2 is an instance class
  engine_version     = var.postgres_version

  serverlessv2_scaling_configuration {
    min_capacity             = var.aurora_min_capacity
    max_capacity             = var.aurora_max_capacity
    seconds_until_auto_pause = local.pauses ? 300 : null
  }

  database_name                       = local.database_name
  port                                = local.port
  master_username                     = "fusewire_owner"
  manage_master_user_password         = var.aurora_global ? null : true
  master_user_secret_kms_key_id       = var.aurora_global ? null : local.key_arn
  master_password_wo                  = var.aurora_global ? var.aurora_owner_password : null
  master_password_wo_version          = var.aurora_global ? 1 : null
  iam_database_authentication_enabled = true

  db_subnet_group_name            = aws_db_subnet_group.this[0].name
  vpc_security_group_ids          = [aws_security_group.database.id]
  db_cluster_parameter_group_name = aws_rds_cluster_parameter_group.this[0].name

  storage_encrypted = true
  kms_key_id        = local.key_arn

  backup_retention_period      = var.backup_retention_days
  preferred_backup_window      = "03:10-04:10"
  preferred_maintenance_window = "sun:04:30-sun:05:30"
  copy_tags_to_snapshot        = true
  delete_automated_backups     = false
  deletion_protection          = var.deletion_protection
  skip_final_snapshot          = false
  final_snapshot_identifier    = local.final_snapshot

  apply_immediately               = var.apply_immediately
  allow_major_version_upgrade     = false
  enabled_cloudwatch_logs_exports = ["postgresql"]

  lifecycle {
    ignore_changes = [global_cluster_identifier] # the global database takes it in
  }

  depends_on = [aws_cloudwatch_log_group.postgres]
}

resource "aws_rds_cluster_instance" "this" {
  count = local.aurora ? (var.multi_az ? 2 : 1) : 0

  identifier         = "${local.name}-${count.index + 1}"
  cluster_identifier = aws_rds_cluster.this[0].id
  engine             = aws_rds_cluster.this[0].engine
  engine_version     = aws_rds_cluster.this[0].engine_version
  instance_class     = "db.serverless"
  availability_zone  = local.zones[count.index]
  promotion_tier     = 0 # so that it is as large as the writer when it takes over
  ca_cert_identifier = "rds-ca-rsa2048-g1"

  publicly_accessible          = false
  apply_immediately            = var.apply_immediately
  auto_minor_version_upgrade   = true
  preferred_maintenance_window = "sun:04:30-sun:05:30"
  performance_insights_enabled = false # it holds the capacity up, and its history is Postgres' own
}

# --- The second region -----------------------------------------------------------------------------------------------
# A cluster without instances costs its storage alone. After a failover, instances and the functions are made there by
# hand: docs/operations.md.
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-global-database-attach.console.headless.html

resource "aws_rds_global_cluster" "this" {
  count = var.aurora_global ? 1 : 0

  global_cluster_identifier    = local.name
  source_db_cluster_identifier = aws_rds_cluster.this[0].arn
  force_destroy                = true # it lets its clusters go, and each has a protection of its own
}

data "aws_availability_zones" "second" {
  provider = aws.second
  count    = var.aurora_global && var.second_availability_zones == null ? 1 : 0

  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

resource "aws_vpc" "second" {
  provider = aws.second
  count    = var.aurora_global ? 1 : 0

  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = local.name }
}

resource "aws_default_security_group" "second" {
  provider = aws.second
  count    = var.aurora_global ? 1 : 0

  vpc_id = aws_vpc.second[0].id
}

resource "aws_subnet" "second" {
  provider = aws.second
  count    = var.aurora_global ? 2 : 0

  vpc_id            = aws_vpc.second[0].id
  availability_zone = (var.second_availability_zones == null ? data.aws_availability_zones.second[0].names : var.second_availability_zones)[count.index]
  cidr_block        = local.database_cidrs[count.index]

  tags = { Name = "${local.name}-database-${count.index + 1}" }
}

resource "aws_db_subnet_group" "second" {
  provider = aws.second
  count    = var.aurora_global ? 1 : 0

  name       = local.name
  subnet_ids = aws_subnet.second[*].id
}

resource "aws_rds_cluster" "second" {
  provider = aws.second
  count    = var.aurora_global ? 1 : 0

  cluster_identifier        = local.name
  global_cluster_identifier = aws_rds_global_cluster.this[0].id
  engine                    = aws_rds_cluster.this[0].engine
  engine_version            = aws_rds_cluster.this[0].engine_version

  serverlessv2_scaling_configuration {
    min_capacity = var.aurora_min_capacity
    max_capacity = var.aurora_max_capacity
  }

  db_subnet_group_name   = aws_db_subnet_group.second[0].name
  vpc_security_group_ids = [aws_default_security_group.second[0].id]

  storage_encrypted = true
  kms_key_id        = aws_cloudformation_stack.second_key[0].outputs["KeyArn"]

  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = local.final_snapshot

  lifecycle {
    ignore_changes = [replication_source_identifier]
  }

  depends_on = [aws_rds_cluster_instance.this]
}
