output "store" {
  description = "What modules/app and modules/function need to know of the platform."
  value = {
    table_name  = aws_dynamodb_table.this.name
    table_arn   = aws_dynamodb_table.this.arn
    bucket_name = aws_s3_bucket.this.bucket
    bucket_arn  = aws_s3_bucket.this.arn
    queues_arn  = local.queue_arn
    kms_key_arn = local.key_arn
    log_group   = aws_cloudwatch_log_group.hosts.name
    topics      = [aws_sns_topic.alarms.arn]
  }
}

output "url" {
  description = "Where the hosts answer; for Fargate once the domain points at `balancer`."
  value = (
    var.domain != null ? "https://${var.domain}" :
    local.lambda == 1 ? one(aws_apigatewayv2_api.host[*].api_endpoint) :
    null
  )
}

output "queues" {
  description = "What the names of the hosts' queues begin with, for modules/gpu-pool."
  value       = local.queues
}

output "balancer" {
  description = "The name and the zone that an alias record of the domain points to: the load balancer's, or the HTTP API's."
  value = one(concat(
    [for balancer in aws_lb.this : { name = balancer.dns_name, zone_id = balancer.zone_id }],
    [for domain in aws_apigatewayv2_domain_name.host : {
      name    = one(domain.domain_name_configuration).target_domain_name
      zone_id = one(domain.domain_name_configuration).hosted_zone_id
    }],
  ))
}

output "host_role_arn" {
  description = "The role of the hosts."
  value       = one(aws_iam_role.host[*].arn)
}

output "host_policy" {
  description = "The document of the policy that hosts need."
  value       = data.aws_iam_policy_document.host.json
}

output "config" {
  description = "The configuration of the hosts, for those that run elsewhere (`hosts = \"none\"`). On EKS the chart writes it."
  value       = local.config
  sensitive   = true
}

output "chart_values" {
  description = "For `eks`: what the chart of infra/kubernetes is told of the platform, as YAML."
  value       = local.eks == 1 ? yamlencode(local.chart_values) : null

  precondition {
    condition     = local.eks == 0 || var.eks != null
    error_message = "`hosts = \"eks\"` needs `eks`, with the `cluster` that the hosts run on."
  }

  precondition {
    condition     = local.eks == 0 || var.config == ""
    error_message = "`config` is set, and on EKS the chart writes the hosts' configuration: give it as `host.config` of the chart."
  }
}

output "chart_secret" {
  description = "For `eks`: the secret that the chart needs, as YAML."
  value       = local.eks == 1 ? yamlencode(local.chart_secret) : null
  sensitive   = true

  precondition {
    condition     = local.eks == 0 || (var.api_token != null && var.worker_token != null && var.s3_keys != null)
    error_message = "`hosts = \"eks\"` needs `api_token`, `worker_token` and `s3_keys`: the chart's secret has all of them."
  }
}

output "waf_arn" {
  description = "The WAF, which an ingress on EKS names in an annotation of its controller."
  value       = one(aws_wafv2_web_acl.this[*].arn)
}

output "notices_queue" {
  description = "The queue that takes notices of attached buckets: its name, its URL and its ARN."
  value       = { name = aws_sqs_queue.notices.name, url = aws_sqs_queue.notices.url, arn = aws_sqs_queue.notices.arn }
}

output "alarms_topic" {
  description = "The topic that alarms notify."
  value       = aws_sns_topic.alarms.arn
}
