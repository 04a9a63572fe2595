# Who may talk to whom:
#
#   functions --5432--> proxy --5432--> database <--5432-- migrate, and the rotation of the app role's password
#   all of them but the proxy and the database --443--> the vendors and AWS, or the endpoints alone without a way out
#
# Nothing is let in from outside the VPC.

locals {
  port = 5432

  # How the functions get to Postgres: as the variables have it, and as those versions do that are still called.
  wanted_way = "${var.proxy_enabled && !local.external ? "proxy" : "direct"}-${var.database_iam_auth ? "iam" : "password"}"
  ways       = setunion([local.wanted_way], var.kept_connections)

  # The groups that open connections of their own. Rotation lives only where it is asked for.
  callers = merge(
    { lambda = aws_security_group.lambda.id, migrate = aws_security_group.migrate.id },
    local.rotation ? { rotation = aws_security_group.rotation[0].id } : {},
  )

  # Without a proxy the functions go to the instance themselves.
  direct = anytrue([for way in local.ways : startswith(way, "direct-")])
  database_clients = local.external ? {} : merge(
    { for name, id in local.callers : name => id if name != "lambda" || local.direct },
    local.proxied ? { proxy = aws_security_group.proxy[0].id } : {},
  )
}

resource "aws_security_group" "lambda" {
  name_prefix = "${local.name}-lambda-"
  description = "The functions, except migrate"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-lambda" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "migrate" {
  name_prefix = "${local.name}-migrate-"
  description = "The migrate function, the only one that reads the password of the owner"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-migrate" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "rotation" {
  count = local.rotation ? 1 : 0

  name_prefix = "${local.name}-rotation-"
  description = "The function that changes the password of the app role"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-rotation" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "proxy" {
  count = local.proxied ? 1 : 0

  name_prefix = "${local.name}-proxy-"
  description = "RDS Proxy"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-proxy" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "database" {
  name_prefix = "${local.name}-database-"
  description = "Postgres"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-database" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "endpoints" {
  count = length(var.interface_endpoints) > 0 ? 1 : 0

  name_prefix = "${local.name}-endpoints-"
  description = "AWS services inside the VPC"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-endpoints" }

  lifecycle {
    create_before_destroy = true
  }
}

# --- To the database -------------------------------------------------------------------------------------------------

resource "aws_vpc_security_group_egress_rule" "to_proxy" {
  count = local.proxied ? 1 : 0

  security_group_id            = aws_security_group.lambda.id
  description                  = "Postgres through the proxy"
  referenced_security_group_id = aws_security_group.proxy[0].id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_ingress_rule" "proxy" {
  count = local.proxied ? 1 : 0

  security_group_id            = aws_security_group.proxy[0].id
  description                  = "Postgres from the functions"
  referenced_security_group_id = aws_security_group.lambda.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "to_database" {
  for_each = local.database_clients

  security_group_id            = each.value
  description                  = "Postgres"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  for_each = local.database_clients

  security_group_id            = aws_security_group.database.id
  description                  = "Postgres from ${each.key}"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

# --- Out -------------------------------------------------------------------------------------------------------------

resource "aws_vpc_security_group_egress_rule" "https" {
  for_each = local.public_subnets > 0 ? local.callers : {}

  security_group_id = each.value
  description       = "The vendors and AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "to_endpoints" {
  for_each = length(var.interface_endpoints) > 0 ? local.callers : {}

  security_group_id            = each.value
  description                  = "AWS services inside the VPC"
  referenced_security_group_id = aws_security_group.endpoints[0].id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each = length(var.interface_endpoints) > 0 ? local.callers : {}

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "HTTPS from ${each.key}"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "model_servers" {
  for_each = { for server in var.model_servers : "${server.cidr}:${server.port}" => server }

  security_group_id = aws_security_group.lambda.id
  description       = "A model server"
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "external_database" {
  for_each = local.external ? local.callers : {}

  security_group_id = each.value
  description       = "Postgres elsewhere"
  cidr_ipv4         = var.external_database.cidr
  ip_protocol       = "tcp"
  from_port         = var.external_database.port
  to_port           = var.external_database.port
}
