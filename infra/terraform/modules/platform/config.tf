# The hosts' configuration: one text, kept as a secret since it has tokens in it.

locals {
  # JSON's strings are TOML's, as far as these go.
  config = join("\n", concat(
    [
      "data_dir = \"/var/lib/tidegate\"",
      "[store]",
      "kind = \"aws\"",
      "table = ${jsonencode(aws_dynamodb_table.this.name)}",
      "bucket = ${jsonencode(aws_s3_bucket.this.bucket)}",
      "queues = ${jsonencode(local.queues)}",
      "region = ${jsonencode(local.region)}",
    ],
    [for queue in aws_sqs_queue.intake : "intake = ${jsonencode(queue.name)}"],
    [
      "[gateway]",
      "listen = \"0.0.0.0:8080\"",
      "hosts = ${jsonencode(compact([var.domain]))}",
    ],
    var.api_token == null ? [] : ["api_token = ${jsonencode(var.api_token)}"],
    ["[worker]", "start = false"],
    var.worker_token == null ? [] : ["token = ${jsonencode(var.worker_token)}"],
    var.s3_keys == null ? [] : [
      "[s3]",
      "listen = \"0.0.0.0:9000\"",
      "access_key = ${jsonencode(var.s3_keys.access_key)}",
      "secret_key = ${jsonencode(var.s3_keys.secret_key)}",
    ],
    [var.config],
  ))
}

resource "aws_ssm_parameter" "config" {
  count       = contains(["fargate", "lambda"], var.hosts) ? 1 : 0
  name        = "/tidegate/${var.name}/config"
  description = "The configuration of the hosts of ${var.name}."
  type        = "SecureString"
  key_id      = local.key_arn
  value       = local.config
  tags        = var.tags
}
