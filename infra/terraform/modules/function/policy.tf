# The policy of a function that runs in a process of its own, as on Lambda: its own tables and buckets, and the rows that
# every handling of an event needs. docs/cloud.md has the keys of the table.
locals {
  grants = try(var.words.grants, {})

  reads = distinct(concat(
    [for table in try(local.grants.state.read, []) : "t#${table}"],
    [for view in try(local.grants.features.read, []) : "t#$features/${view}"],
    [for place in try(local.grants.objects.read, []) : "o#${split("/", place)[0]}"],
  ))
  writes = distinct(concat(
    [for table in try(local.grants.state.write, []) : "t#${table}"],
    [for view in try(local.grants.features.write, []) : "t#$features/${view}"],
    [for place in try(local.grants.objects.write, []) : "o#${split("/", place)[0]}"],
    [for bucket in compact([try(var.words.record.bucket, "")]) : "o#${bucket}"],
  ))

  # What is deployed and declared, and whether commits are held; and of every handling the marker, the run, its lines and its joins, jobs and dead letters, the
  # queues, the outbox, queues that nobody takes from, and bytes that are staged, large, or to be removed.
  common_reads = ["t#$apps", "t#$versions", "t#$buckets", "t#$declared", "o#$components", "declared", "hold"]
  common_writes = concat(
    [for table in ["done", "runs", "requests", "logs", "events", "effects", "joins", "counts", "jobs", "jobs.waiting", "dead", "schedules"] : format("t#$%s", table)],
    ["q#*", "x#*", "s#*", "g#*", "v#*", "r#*"],
  )

  # "All of none" would be all: what names no keys is not let in.
  named = { "dynamodb:LeadingKeys" = "false" }

  read_actions  = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:ConditionCheckItem"]
  write_actions = ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"]

  statements = concat(
    [
      {
        Sid       = "Handling"
        Effect    = "Allow"
        Action    = concat(local.read_actions, local.write_actions, ["dynamodb:BatchWriteItem"])
        Resource  = var.platform.table_arn
        Condition = { "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = local.common_writes }, Null = local.named }
      },
      {
        Sid       = "Deployed"
        Effect    = "Allow"
        Action    = local.read_actions
        Resource  = var.platform.table_arn
        Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = local.common_reads }, Null = local.named }
      },
      {
        Sid      = "Table"
        Effect   = "Allow"
        Action   = ["dynamodb:DescribeTable"]
        Resource = var.platform.table_arn
      },
      {
        Sid      = "Queues"
        Effect   = "Allow"
        Action   = ["sqs:CreateQueue", "sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]
        Resource = "${var.platform.queues_arn}*"
      },
      {
        Sid      = "Blobs"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        Resource = "${var.platform.bucket_arn}/blobs/*"
      },
      {
        Sid      = "Bucket"
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = var.platform.bucket_arn
      },
    ],
    [for keys in [local.reads] : {
      Sid       = "Reads"
      Effect    = "Allow"
      Action    = local.read_actions
      Resource  = var.platform.table_arn
      Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = keys }, Null = local.named }
    } if length(keys) > 0],
    [for keys in [local.writes] : {
      Sid       = "Writes"
      Effect    = "Allow"
      Action    = concat(["dynamodb:ConditionCheckItem"], local.write_actions)
      Resource  = var.platform.table_arn
      Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = keys }, Null = local.named }
    } if length(keys) > 0],
    [for key in compact([var.platform.kms_key_arn]) : {
      Sid      = "Key"
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = key
    }],
  )

  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })
}

resource "aws_iam_policy" "function" {
  count       = var.create_policy ? 1 : 0
  name        = local.full
  description = "What the function ${var.app}/${var.name} may touch."
  policy      = local.policy
  tags        = var.tags

  lifecycle {
    precondition {
      condition     = length(local.full) <= 128
      error_message = "The IAM policy of `${var.app}/${var.name}` would be called `${local.full}`, which has ${length(local.full)} characters, and IAM takes 128: give shorter names, or `create_policy = false`."
    }
    precondition {
      condition     = length(local.policy) <= 6144
      error_message = "The IAM policy of `${var.app}/${var.name}` has ${length(local.policy)} characters, and IAM takes 6,144: grant fewer tables, buckets and views, or set `create_policy = false`."
    }
  }
}
