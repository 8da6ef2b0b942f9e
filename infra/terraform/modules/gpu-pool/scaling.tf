# As many instances as there are jobs that wait or are worked on. Both have a message: one that is worked on is invisible.

locals {
  # What hosts call the queues that tell of jobs: readable, and a digest, which no function here gives.
  queues = {
    "predict.batch"           = "-jobs-predict-batch-1d7dd605"
    "quantise.onnx"           = "-jobs-quantise-onnx-b2d1012a"
    "train.command"           = "-jobs-train-command-7e276a0e"
    "train.gradient-boosting" = "-jobs-train-gradient-boosting-6e53d745"
    "train.mlp"               = "-jobs-train-mlp-3843a361"
    "train.random-forest"     = "-jobs-train-random-forest-f0e81948"
    "train.two-tower"         = "-jobs-train-two-tower-f866a42c"
  }
  metrics = merge([
    for number, kind in sort(var.kinds) : {
      "w${number}" = { queue = "${var.queues}${local.queues[kind]}", name = "ApproximateNumberOfMessagesVisible" }
      "u${number}" = { queue = "${var.queues}${local.queues[kind]}", name = "ApproximateNumberOfMessagesNotVisible" }
    }
  ]...)
}

resource "aws_autoscaling_policy" "more" {
  name                   = "${var.name}-jobs"
  autoscaling_group_name = aws_autoscaling_group.worker.name
  policy_type            = "StepScaling"
  adjustment_type        = "ExactCapacity"

  # One instance for each `jobs_per_instance`, up to the bound.
  dynamic "step_adjustment" {
    for_each = range(max(var.size.min, 1), var.size.max + 1)
    content {
      scaling_adjustment          = step_adjustment.value
      metric_interval_lower_bound = step_adjustment.key == 0 ? 0 : (step_adjustment.value - 1) * var.jobs_per_instance
      metric_interval_upper_bound = step_adjustment.value == var.size.max ? null : step_adjustment.value * var.jobs_per_instance
    }
  }
}

resource "aws_autoscaling_policy" "none" {
  name                   = "${var.name}-idle"
  autoscaling_group_name = aws_autoscaling_group.worker.name
  policy_type            = "StepScaling"
  adjustment_type        = "ExactCapacity"

  step_adjustment {
    scaling_adjustment          = var.size.min
    metric_interval_upper_bound = 0
  }
}

resource "aws_cloudwatch_metric_alarm" "jobs" {
  for_each = {
    more = { comparison = "GreaterThanThreshold", threshold = 0, periods = 1, action = aws_autoscaling_policy.more.arn }
    none = { comparison = "LessThanThreshold", threshold = 1, periods = var.idle_minutes, action = aws_autoscaling_policy.none.arn }
  }
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "Changes the number of workers with GPUs."
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching"
  alarm_actions       = [each.value.action]
  tags                = var.tags

  metric_query {
    id          = "jobs"
    expression  = "SUM(METRICS())"
    label       = "jobs"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.metrics
    content {
      id = metric_query.key
      metric {
        namespace   = "AWS/SQS"
        metric_name = metric_query.value.name
        dimensions  = { QueueName = metric_query.value.queue }
        stat        = "Maximum"
        period      = 60
      }
    }
  }
}
