# Three kinds of subnets, each in both zones: the functions' (a way out, no way in), the database's (neither), and a
# small public one for the NAT gateways.

data "aws_availability_zones" "usable" {
  count = var.availability_zones == null ? 1 : 0

  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  name  = "fusewire-${var.stage}"
  zones = var.availability_zones == null ? slice(data.aws_availability_zones.usable[0].names, 0, 2) : var.availability_zones

  public_subnets = max(var.nat_gateways, var.nat_instance == null ? 0 : 1)

  # Of four quarters two are the functions', the third holds the public subnets, the fourth the database's.
  private_cidrs  = [for index in range(2) : cidrsubnet(var.vpc_cidr, 2, index)]
  public_cidrs   = [for index in range(2) : cidrsubnet(cidrsubnet(var.vpc_cidr, 2, 2), 4, index)]
  database_cidrs = [for index in range(2) : cidrsubnet(cidrsubnet(var.vpc_cidr, 2, 3), 2, index)]
}

resource "aws_vpc" "this" {
  cidr_block = var.vpc_cidr

  assign_generated_ipv6_cidr_block = var.ipv6_egress
  enable_dns_support               = true
  enable_dns_hostnames             = true

  tags = { Name = local.name }
}

# What forgets to name a security group gets this one, and can talk to nobody.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
}

resource "aws_subnet" "private" {
  count = 2

  vpc_id            = aws_vpc.this.id
  availability_zone = local.zones[count.index]
  cidr_block        = local.private_cidrs[count.index]
  ipv6_cidr_block   = var.ipv6_egress ? cidrsubnet(aws_vpc.this.ipv6_cidr_block, 8, count.index) : null

  tags = { Name = "${local.name}-private-${count.index + 1}" }
}

resource "aws_route_table" "private" {
  count = 2

  vpc_id = aws_vpc.this.id

  tags = { Name = "${local.name}-private-${count.index + 1}" }
}

resource "aws_route_table_association" "private" {
  count = 2

  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[count.index].id
}

resource "aws_subnet" "database" {
  count = 2

  vpc_id            = aws_vpc.this.id
  availability_zone = local.zones[count.index]
  cidr_block        = local.database_cidrs[count.index]

  tags = { Name = "${local.name}-database-${count.index + 1}" }
}

resource "aws_route_table" "database" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${local.name}-database" }
}

resource "aws_route_table_association" "database" {
  count = 2

  subnet_id      = aws_subnet.database[count.index].id
  route_table_id = aws_route_table.database.id
}

# --- The way out -----------------------------------------------------------------------------------------------------

resource "aws_internet_gateway" "this" {
  count = local.public_subnets > 0 ? 1 : 0

  vpc_id = aws_vpc.this.id

  tags = { Name = local.name }
}

resource "aws_subnet" "public" {
  count = local.public_subnets

  vpc_id            = aws_vpc.this.id
  availability_zone = local.zones[count.index]
  cidr_block        = local.public_cidrs[count.index]

  tags = { Name = "${local.name}-public-${count.index + 1}" }
}

resource "aws_route_table" "public" {
  count = local.public_subnets > 0 ? 1 : 0

  vpc_id = aws_vpc.this.id

  tags = { Name = "${local.name}-public" }
}

resource "aws_route" "public" {
  count = local.public_subnets > 0 ? 1 : 0

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  count = local.public_subnets

  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_eip" "nat" {
  count = var.nat_gateways

  domain = "vpc"

  tags = { Name = "${local.name}-nat-${count.index + 1}" }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_nat_gateway" "this" {
  count = var.nat_gateways

  allocation_id = aws_eip.nat[count.index].id
  subnet_id     = aws_subnet.public[count.index].id

  tags = { Name = "${local.name}-${count.index + 1}" }

  depends_on = [aws_route.public]
}

# With one gateway both zones leave through it; with two, each through its own.
resource "aws_route" "private" {
  count = var.nat_gateways > 0 ? 2 : 0

  route_table_id         = aws_route_table.private[count.index].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[min(count.index, var.nat_gateways - 1)].id
}

# --- Endpoints -------------------------------------------------------------------------------------------------------

# Free, and keeps S3's traffic off the NAT gateway's meter.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${var.region}.s3"
  route_table_ids   = aws_route_table.private[*].id

  tags = { Name = "${local.name}-s3" }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = var.interface_endpoints

  vpc_id              = aws_vpc.this.id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  private_dns_enabled = true
  subnet_ids          = aws_subnet.private[*].id
  security_group_ids  = [aws_security_group.endpoints[0].id]

  tags = { Name = "${local.name}-${each.key}" }
}
