# Ways from the hosts to AWS that do not go through the internet.

locals {
  endpoints = var.vpc_endpoints && var.vpc_id != null
  # What Fargate needs beside the store: images, logs, and the configuration.
  interfaces = local.endpoints ? toset(["sqs", "kms", "logs", "ecr.api", "ecr.dkr", "ssm"]) : toset([])
}

resource "aws_vpc_endpoint" "gateway" {
  for_each          = local.endpoints ? toset(["s3", "dynamodb"]) : toset([])
  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${local.region}.${each.value}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.route_tables
  tags              = var.tags
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = local.interfaces
  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${local.region}.${each.value}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = var.private_subnets
  security_group_ids  = aws_security_group.endpoints[*].id
  tags                = var.tags
}

data "aws_vpc" "this" {
  count = var.vpc_id == null ? 0 : 1
  id    = var.vpc_id
}

resource "aws_security_group" "endpoints" {
  count       = local.endpoints ? 1 : 0
  name        = "${var.name}-endpoints"
  description = "VPC endpoints of the platform ${var.name}."
  vpc_id      = var.vpc_id
  tags        = var.tags

  ingress {
    description = "TLS from the VPC"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = [data.aws_vpc.this[0].cidr_block]
  }
}
