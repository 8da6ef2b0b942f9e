# The hosts' configuration: one text, kept as a secret since it has tokens in it. On EKS the chart writes it (eks.tf).

locals {
  # Where notices of attached buckets come from: Lambda hands them to the host by itself.
  attached = { for name, of in var.attached : name => merge(
    { bucket = of.bucket, prefix = of.prefix },
    var.hosts == "lambda" ? {} : { queue = aws_sqs_queue.notices.name },
  ) }

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
      # A load balancer asks on a connection again that was still for up to 60 seconds: the host keeps it for longer.
      "head_timeout = \"75s\"",
      "hosts = ${jsonencode(compact([var.domain]))}",
    ],
    var.api_token == null ? [] : ["api_token = ${jsonencode(var.api_token)}"],
    ["[worker]", "start = false"],
    var.worker_token == null ? [] : ["token = ${jsonencode(var.worker_token)}"],
    var.grpc ? ["[inference]", "listen = \"0.0.0.0:8081\""] : [],
    var.s3_keys == null ? [] : [
      "[s3]",
      "listen = \"0.0.0.0:9000\"",
      "access_key = ${jsonencode(var.s3_keys.access_key)}",
      "secret_key = ${jsonencode(var.s3_keys.secret_key)}",
    ],
    flatten([for name, of in local.attached : concat(
      ["[attached.${name}]"], [for key, value in of : "${key} = ${jsonencode(value)}"],
    )]),
    [var.config],
  ))
}

resource "aws_ssm_parameter" "config" {
  count       = local.fargate
  name        = "/tidegate/${var.name}/config"
  description = "The configuration of the hosts of ${var.name}."
  type        = "SecureString"
  key_id      = local.key_arn
  value       = local.config
  tags        = var.tags
}

# Of the worker beside each host; the hosts have it in their configuration.
resource "aws_ssm_parameter" "worker_token" {
  count       = local.fargate == 1 && var.worker != null ? 1 : 0
  name        = "/tidegate/${var.name}/worker-token"
  description = "What the workers beside the hosts of ${var.name} prove themselves with."
  type        = "SecureString"
  key_id      = local.key_arn
  value       = var.worker_token
  tags        = var.tags

  lifecycle {
    precondition {
      condition     = nonsensitive(var.worker_token != null)
      error_message = "`worker` needs `worker_token`: it is what the worker proves itself to its host with."
    }
  }
}
