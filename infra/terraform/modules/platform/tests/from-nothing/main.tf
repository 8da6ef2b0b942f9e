# The network, the platform on it, its GPUs and a function, all in one root: nothing of it is there when it is planned.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

resource "aws_vpc" "this" {
  cidr_block = "10.0.0.0/16"
}

resource "aws_subnet" "this" {
  count      = 4
  vpc_id     = aws_vpc.this.id
  cidr_block = "10.0.${count.index}.0/24"
}

resource "aws_route_table" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_acm_certificate" "this" {
  domain_name       = "tide.example.com"
  validation_method = "DNS"
}

resource "aws_ecr_repository" "this" {
  for_each = toset(["host", "worker", "worker-cuda"])
  name     = each.value
}

resource "aws_s3_bucket" "raw" {
  bucket = "acme-raw"
}

module "platform" {
  source = "../.."

  image           = "${aws_ecr_repository.this["host"].repository_url}:1"
  worker          = { image = "${aws_ecr_repository.this["worker"].repository_url}:1", only = "inference" }
  domain          = "tide.example.com"
  certificate_arn = aws_acm_certificate.this.arn
  vpc_id          = aws_vpc.this.id
  private_subnets = slice(aws_subnet.this[*].id, 0, 2)
  public_subnets  = slice(aws_subnet.this[*].id, 2, 4)
  route_tables    = [aws_route_table.this.id]
  api_token       = "one"
  worker_token    = "two"
  waf             = true
  attached        = { acme = { bucket = aws_s3_bucket.raw.bucket } }
}

module "gpus" {
  source = "../../../gpu-pool"

  host         = module.platform.url
  worker_token = "two"
  image        = "${aws_ecr_repository.this["worker-cuda"].repository_url}:1"
  queues       = module.platform.queues
  vpc_id       = aws_vpc.this.id
  subnets      = slice(aws_subnet.this[*].id, 0, 2)
  kms_key_arn  = module.platform.store.kms_key_arn
}

module "step" {
  source = "../../../function"

  platform  = module.platform.store
  app       = "shop"
  name      = "step"
  component = "${path.module}/../../../function/tests/step.wasm"
}

output "policy" {
  value = module.step.policy_arn
}
