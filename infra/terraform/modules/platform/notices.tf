# Notices of buckets of others, and of alarms to people.

resource "aws_sqs_queue" "notices" {
  name                       = "${local.queues}notices"
  visibility_timeout_seconds = var.hosts == "lambda" ? 6 * local.lambda_timeout : 60
  message_retention_seconds  = 1209600
  receive_wait_time_seconds  = 20
  kms_master_key_id          = local.key_arn
  sqs_managed_sse_enabled    = var.kms ? null : true
  tags                       = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.notices_dead.arn
    maxReceiveCount     = 10
  })
}

resource "aws_sqs_queue" "notices_dead" {
  name                      = local.dead_queues.notices.name
  message_retention_seconds = 1209600
  kms_master_key_id         = local.key_arn
  sqs_managed_sse_enabled   = var.kms ? null : true
  tags                      = var.tags
}

resource "aws_sqs_queue_policy" "notices" {
  count     = length(var.attached) > 0 ? 1 : 0
  queue_url = aws_sqs_queue.notices.id
  policy    = data.aws_iam_policy_document.notices[0].json
}

data "aws_iam_policy_document" "notices" {
  count = length(var.attached) > 0 ? 1 : 0

  statement {
    sid       = "Buckets"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.notices.arn]
    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for of in var.attached : "arn:${local.partition}:s3:::${of.bucket}"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

# S3 keeps one list of notifications of a bucket: buckets that are attached twice, by two prefixes, have both in it.
resource "aws_s3_bucket_notification" "attached" {
  for_each = { for of in var.attached : of.bucket => of... if of.notify }
  bucket   = each.key

  dynamic "queue" {
    for_each = each.value
    content {
      queue_arn     = aws_sqs_queue.notices.arn
      events        = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"]
      filter_prefix = queue.value.prefix
    }
  }

  # S3 sends a first message to try whether it may.
  depends_on = [aws_sqs_queue_policy.notices]
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = local.key_arn
  tags              = var.tags
}

resource "aws_sns_topic_subscription" "people" {
  for_each  = toset(var.alarm_emails)
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}
