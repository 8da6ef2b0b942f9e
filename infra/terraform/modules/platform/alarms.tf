# What hosts write, and what is wrong enough to tell somebody.

locals {
  # Of all queues of this account in this region: a metric cannot be asked for by the beginning of a queue's name.
  queue_age = "SELECT MAX(ApproximateAgeOfOldestMessage) FROM SCHEMA(\"AWS/SQS\", QueueName)"
  namespace = "Tidegate/${var.name}"
}

resource "aws_cloudwatch_log_group" "hosts" {
  name              = local.log_group
  retention_in_days = var.log_retention_days
  kms_key_id        = local.key_arn
  tags              = var.tags
}

# Hosts write JSON lines; these count what alarms are about.
resource "aws_cloudwatch_log_metric_filter" "lines" {
  for_each = {
    dead-letters = "{ $.message = \"invocation failed\" && $.outcome = \"dead\" }"
    refused      = "{ $.message = \"what is declared is refused*\" }"
    errors       = "{ $.level = \"ERROR\" }"
  }
  name           = "${var.name}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.hosts.name
  pattern        = each.value

  metric_transformation {
    name          = each.key
    namespace     = local.namespace
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "queue_age" {
  alarm_name          = "${var.name}-queue-age"
  alarm_description   = "Events wait for longer than they should: hosts are missing, or a function is too slow for what it gets."
  comparison_operator = "GreaterThanThreshold"
  evaluation_periods  = 3
  threshold           = var.alarms.queue_age_seconds
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = var.tags

  metric_query {
    id          = "age"
    expression  = local.queue_age
    period      = 60
    return_data = true
  }
}

resource "aws_cloudwatch_metric_alarm" "lines" {
  for_each = {
    dead-letters = { threshold = var.alarms.dead_letters, description = "Functions gave up on events: `tidegate dlq list` has the reasons." }
    refused      = { threshold = 1, description = "A function that is declared is refused: `tidegate declared` has the reasons." }
    errors       = { threshold = var.alarms.errors_in_5_minutes, description = "Hosts log errors." }
  }
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = local.namespace
  metric_name         = each.key
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "notices_dead" {
  alarm_name          = "${var.name}-notices-dead-letters"
  alarm_description   = "Notices of buckets that no host could take in."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.notices_dead.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = var.alarms.notices_dead_letters
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "error_rate" {
  count               = local.fargate
  alarm_name          = "${var.name}-error-rate"
  alarm_description   = "Requests are answered with 5xx."
  comparison_operator = "GreaterThanThreshold"
  evaluation_periods  = 3
  threshold           = var.alarms.error_rate_percent
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = var.tags

  metric_query {
    id          = "rate"
    expression  = "100 * failed / MAX([asked, 1])"
    label       = "5xx in hundredths"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { failed = "HTTPCode_Target_5XX_Count", asked = "RequestCount" }
    content {
      id = metric_query.key
      metric {
        namespace   = "AWS/ApplicationELB"
        metric_name = metric_query.value
        dimensions  = { LoadBalancer = aws_lb.this[0].arn_suffix }
        stat        = "Sum"
        period      = 60
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "latency" {
  count               = local.fargate
  alarm_name          = "${var.name}-latency"
  alarm_description   = "One request in a hundred takes longer than it should."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  dimensions          = { LoadBalancer = aws_lb.this[0].arn_suffix }
  extended_statistic  = "p99"
  period              = 60
  evaluation_periods  = 3
  threshold           = var.alarms.latency_p99_seconds
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = var.tags
}
