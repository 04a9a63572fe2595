# Ways out that cost little: one small machine in place of a NAT gateway, and IPv6, which needs neither.

# --- A NAT instance --------------------------------------------------------------------------------------------------
# One machine in one zone: while it is replaced or its zone is away, no vendor can be reached, and calls fail over to
# nobody. Its image is the newest when it is made; `terraform apply -replace` on it is the way to patch it.

# EC2 looks the newest image up by itself, so that no plan has to.
resource "aws_launch_template" "nat" {
  count = var.nat_instance == null ? 0 : 1

  name     = "${local.name}-nat"
  image_id = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

resource "aws_security_group" "nat" {
  count = var.nat_instance == null ? 0 : 1

  name_prefix = "${local.name}-nat-"
  description = "The way out to the vendors"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-nat" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "nat" {
  for_each = var.nat_instance == null ? {} : local.callers

  security_group_id            = aws_security_group.nat[0].id
  description                  = "HTTPS from ${each.key}, on its way out"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "nat" {
  count = var.nat_instance == null ? 0 : 1

  security_group_id = aws_security_group.nat[0].id
  description       = "The vendors and AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_instance" "nat" {
  count = var.nat_instance == null ? 0 : 1

  instance_type          = var.nat_instance
  subnet_id              = aws_subnet.public[0].id
  vpc_security_group_ids = [aws_security_group.nat[0].id]
  source_dest_check      = false

  launch_template {
    id = aws_launch_template.nat[0].id
  }

  # Nobody signs in, so there is no key and no agent. The package comes by 443 as soon as the address below is there.
  user_data = <<-END
    #!/bin/bash
    set -eu
    until dnf install -y nftables; do sleep 5; done
    echo net.ipv4.ip_forward=1 > /etc/sysctl.d/90-nat.conf
    sysctl --system
    cat > /etc/sysconfig/nftables.conf <<'RULES'
    table ip nat {
      chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr ${var.vpc_cidr} ip daddr != ${var.vpc_cidr} masquerade
      }
    }
    RULES
    systemctl enable --now nftables
  END

  user_data_replace_on_change = true

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 8
    encrypted   = true
    kms_key_id  = local.key_arn
  }

  maintenance_options {
    auto_recovery = "default"
  }

  tags = { Name = "${local.name}-nat" }

  lifecycle {
    ignore_changes = [ami] # else each apply after a new image would cut the way out
  }

  depends_on = [aws_route.public, aws_vpc_security_group_egress_rule.nat]
}

# Its address stays when it is replaced: vendors' allow-lists know it.
resource "aws_eip" "nat_instance" {
  count = var.nat_instance == null ? 0 : 1

  domain = "vpc"

  tags = { Name = "${local.name}-nat" }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_eip_association" "nat" {
  count = var.nat_instance == null ? 0 : 1

  allocation_id = aws_eip.nat_instance[0].id
  instance_id   = aws_instance.nat[0].id
}

resource "aws_route" "nat_instance" {
  count = var.nat_instance == null ? 0 : 2

  route_table_id         = aws_route_table.private[count.index].id
  destination_cidr_block = "0.0.0.0/0"
  network_interface_id   = aws_instance.nat[0].primary_network_interface_id
}

# --- IPv6 ------------------------------------------------------------------------------------------------------------
# Free, and only outwards. A vendor without an IPv6 address isn't reached by it.

resource "aws_egress_only_internet_gateway" "this" {
  count = var.ipv6_egress ? 1 : 0

  vpc_id = aws_vpc.this.id

  tags = { Name = local.name }
}

resource "aws_route" "ipv6" {
  count = var.ipv6_egress ? 2 : 0

  route_table_id              = aws_route_table.private[count.index].id
  destination_ipv6_cidr_block = "::/0"
  egress_only_gateway_id      = aws_egress_only_internet_gateway.this[0].id
}

resource "aws_vpc_security_group_egress_rule" "https_ipv6" {
  for_each = var.ipv6_egress ? local.callers : {}

  security_group_id = each.value
  description       = "The vendors and AWS"
  cidr_ipv6         = "::/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
