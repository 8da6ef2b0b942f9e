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

output "balancer" {
  description = "The load balancer's own name and zone, for an alias record of the domain."
  value       = one([for balancer in aws_lb.this : { name = balancer.dns_name, zone_id = balancer.zone_id }])
}

output "host_role_arn" {
  description = "The role of the hosts; on EKS the annotation `eks.amazonaws.com/role-arn` of their service account."
  value       = one(aws_iam_role.host[*].arn)
}

output "host_policy" {
  description = "The document of the policy that hosts need."
  value       = data.aws_iam_policy_document.host.json
}

output "config" {
  description = "The configuration of the hosts; on EKS it goes into a secret."
  value       = local.config
  sensitive   = true
}

output "notices_queue" {
  description = "The queue that takes notices of buckets outside of the platform."
  value       = aws_sqs_queue.notices.url
}

output "alarms_topic" {
  description = "The topic that alarms notify."
  value       = aws_sns_topic.alarms.arn
}
