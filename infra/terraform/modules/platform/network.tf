# Ways from the hosts to AWS that do not go through the internet.

locals {
  # How many subnets there are is known before there is one: the VPC may come with this very apply.
  endpoints = var.vpc_endpoints && length(var.private_subnets) > 0
  # Of the store, and what hosts need beside it: images, logs and the configuration on Fargate, their role on EKS.
  interfaces = !local.endpoints ? toset([]) : toset(concat(
    ["sqs", "kms"],
    local.fargate == 1 ? ["logs", "ecr.api", "ecr.dkr", "ssm"] : [],
    local.eks == 1 ? ["sts"] : [],
  ))
  # All of its ranges: clusters and services often lie in one that was added.
  vpc_cidrs = flatten([for vpc in data.aws_vpc.this : [for range in vpc.cidr_block_associations : range.cidr_block]])
}

resource "aws_vpc_endpoint" "gateway" {
  for_each          = local.endpoints ? toset(["s3", "dynamodb"]) : toset([])
  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${local.region}.${each.value}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.route_tables
  tags              = var.tags

  lifecycle {
    precondition {
      condition     = length(var.route_tables) > 0
      error_message = "`vpc_endpoints` needs `route_tables`, those of the private subnets: without them nobody finds the way to ${each.value}."
    }
  }
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
  count = local.fargate == 1 || local.endpoints ? 1 : 0
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
    cidr_blocks = local.vpc_cidrs
  }
}
