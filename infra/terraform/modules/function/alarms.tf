# What hosts log of this function, counted; and who is told. Where the platform has no log group, there is none of it.

locals {
  lines = {
    dead-letters = {
      pattern     = "{ $.message = \"invocation failed\" && $.outcome = \"dead\" && $.function = \"${var.name}\" }"
      threshold   = var.alarms.dead_letters
      description = "The function ${var.app}/${var.name} gave up on events: `tidegate dlq list --function ${var.name}` has the reasons."
    }
    failures = {
      pattern     = "{ $.message = \"invocation failed\" && $.function = \"${var.name}\" }"
      threshold   = var.alarms.failures_in_5_minutes
      description = "Invocations of the function ${var.app}/${var.name} fail: `tidegate logs --function ${var.name}` has what it said."
    }
  }
  # Two platforms of one account may have the same app.
  full      = "${var.platform.table_name}-${var.app}-${var.name}"
  namespace = "Tidegate/${var.platform.table_name}"
  counted   = var.platform.log_group == null ? {} : { for name, line in local.lines : name => line if line.threshold != null }
}

resource "aws_cloudwatch_log_metric_filter" "lines" {
  for_each       = local.counted
  name           = "${local.full}-${each.key}"
  log_group_name = var.platform.log_group
  pattern        = each.value.pattern

  metric_transformation {
    name          = "${var.app}/${var.name}/${each.key}"
    namespace     = local.namespace
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "lines" {
  for_each            = local.counted
  alarm_name          = "${local.full}-${each.key}"
  alarm_description   = each.value.description
  namespace           = local.namespace
  metric_name         = aws_cloudwatch_log_metric_filter.lines[each.key].metric_transformation[0].name
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.platform.topics
  ok_actions          = var.platform.topics
  tags                = var.tags
}
