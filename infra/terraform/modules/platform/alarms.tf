# What hosts write, and what is wrong enough to tell somebody.

locals {
  # Of all queues of this account in this region: a metric cannot be asked for by the beginning of a queue's name. What lies in a
  # dead-letter queue grows older for ever, and no host would change that.
  queue_age = join(" ", concat(
    ["SELECT MAX(ApproximateAgeOfOldestMessage) FROM SCHEMA(\"AWS/SQS\", QueueName) WHERE"],
    [join(" AND ", [for queue in local.dead_queues : "QueueName != '${queue.name}'"])],
  ))
  dead_queues = merge(
    { notices = { name = "${local.queues}notices-dead", threshold = var.alarms.notices_dead_letters, description = "Notices of buckets that no host could take in." } },
    local.lambda == 1 ? { intake = { name = "${local.queues}intake-dead", threshold = 1, description = "Messages of the intake that no instance could read." } } : {},
  )
  namespace = "Tidegate/${var.name}"

  # What stands before the hosts, and what it counts.
  before = {
    fargate = {
      namespace = "AWS/ApplicationELB", dimensions = { LoadBalancer = one(aws_lb.this[*].arn_suffix) },
      asked     = "RequestCount", failed = "HTTPCode_Target_5XX_Count", latency = "TargetResponseTime", second = 1,
    }
    lambda = {
      namespace = "AWS/ApiGateway", dimensions = { ApiId = one(aws_apigatewayv2_api.host[*].id) },
      asked     = "Count", failed = "5xx", latency = "Latency", second = 1000,
    }
  }
  asked = [for hosts, before in local.before : before if hosts == var.hosts]
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

resource "aws_cloudwatch_metric_alarm" "dead" {
  for_each            = local.dead_queues
  alarm_name          = "${var.name}-${each.key}-dead-letters"
  alarm_description   = each.value.description
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = each.value.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = var.tags
}

# What is answered without a host, as there is none that could, counts as failed.
resource "aws_cloudwatch_metric_alarm" "error_rate" {
  count               = length(local.asked)
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
    id = "rate"
    expression = (
      local.fargate == 1 ?
      "100 * (FILL(failed, 0) + FILL(unserved, 0)) / (FILL(asked, 0) + FILL(unserved, 0))" :
      "100 * FILL(failed, 0) / asked"
    )
    label       = "5xx in hundredths"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = merge(
      { failed = local.asked[0].failed, asked = local.asked[0].asked },
      local.fargate == 1 ? { unserved = "HTTPCode_ELB_5XX_Count" } : {},
    )
    content {
      id = metric_query.key
      metric {
        namespace   = local.asked[0].namespace
        metric_name = metric_query.value
        dimensions  = local.asked[0].dimensions
        stat        = "Sum"
        period      = 60
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "latency" {
  count               = length(local.asked)
  alarm_name          = "${var.name}-latency"
  alarm_description   = "One request in a hundred takes longer than it should."
  namespace           = local.asked[0].namespace
  metric_name         = local.asked[0].latency
  dimensions          = local.asked[0].dimensions
  extended_statistic  = "p99"
  period              = 60
  evaluation_periods  = 3
  threshold           = var.alarms.latency_p99_seconds * local.asked[0].second
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = var.tags
}

# What the host as a Lambda function is invoked with besides requests fails there too.
resource "aws_cloudwatch_metric_alarm" "lambda" {
  for_each = local.lambda == 1 ? {
    errors    = { metric = "Errors", threshold = var.alarms.errors_in_5_minutes, description = "Invocations of the host fail." }
    throttles = { metric = "Throttles", threshold = 1, description = "Lambda holds invocations of the host back: its concurrency is used up." }
  } : {}
  alarm_name          = "${var.name}-lambda-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = { FunctionName = aws_lambda_function.host[0].function_name }
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
