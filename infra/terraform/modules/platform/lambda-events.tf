# What the host as a Lambda function is invoked with besides requests: messages that name events, notices of buckets, and
# the time.

# The one queue that tells of the events of all functions. A message only names an event, which is a row of the table.
resource "aws_sqs_queue" "intake" {
  count                      = local.lambda
  name                       = "${local.queues}intake"
  visibility_timeout_seconds = 6 * local.lambda_timeout
  message_retention_seconds  = 1209600
  kms_master_key_id          = local.key_arn
  sqs_managed_sse_enabled    = var.kms ? null : true
  tags                       = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.intake_dead[0].arn
    maxReceiveCount     = 10
  })
}

# What cannot be read; events that functions give up on are dead letters of the table.
resource "aws_sqs_queue" "intake_dead" {
  count                     = local.lambda
  name                      = local.dead_queues.intake.name
  message_retention_seconds = 1209600
  kms_master_key_id         = local.key_arn
  sqs_managed_sse_enabled   = var.kms ? null : true
  tags                      = var.tags
}

resource "aws_lambda_event_source_mapping" "queues" {
  for_each                = local.lambda == 1 ? { events = aws_sqs_queue.intake[0].arn, notices = aws_sqs_queue.notices.arn } : {}
  event_source_arn        = each.value
  function_name           = aws_lambda_function.host[0].arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]
  tags                    = var.tags

  scaling_config {
    maximum_concurrency = var.lambda_concurrency
  }

  depends_on = [aws_iam_role_policy_attachment.host]
}

# Schedules that are due fire, and what an instance left undone is finished.
resource "aws_cloudwatch_event_rule" "tick" {
  count               = local.lambda
  name                = "${var.name}-tick"
  description         = "Once a minute: schedules of the platform ${var.name}, and what was left undone."
  schedule_expression = "rate(1 minute)"
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "tick" {
  count = local.lambda
  rule  = aws_cloudwatch_event_rule.tick[0].name
  arn   = aws_lambda_function.host[0].arn
  input = jsonencode({ tidegate = "tick" })
}

resource "aws_lambda_permission" "tick" {
  count         = local.lambda
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.host[0].function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.tick[0].arn
}

# A new package runs nothing new before its app is deployed.
resource "aws_lambda_invocation" "deploy" {
  count         = local.lambda
  function_name = aws_lambda_function.host[0].function_name
  input         = jsonencode({ tidegate = "deploy" })
  triggers      = { package = aws_lambda_function.host[0].source_code_hash }

  depends_on = [aws_iam_role_policy_attachment.host]
}
