# What a host may do: the platform's table, bucket and queues, and nothing else.

data "aws_iam_policy_document" "host" {
  statement {
    sid = "Table"
    actions = [
      "dynamodb:DescribeTable", "dynamodb:UpdateTimeToLive", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem",
      "dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:Query", "dynamodb:Scan", "dynamodb:ConditionCheckItem",
    ]
    resources = [aws_dynamodb_table.this.arn]
  }

  # Declarations are Terraform's: hosts read them and never write them.
  statement {
    sid       = "NoDeclarations"
    effect    = "Deny"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem"]
    resources = [aws_dynamodb_table.this.arn]
    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "dynamodb:LeadingKeys"
      values   = ["declared"]
    }
  }

  statement {
    sid       = "Blobs"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.this.arn}/blobs/*"]
  }

  statement {
    sid       = "Components"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this.arn}/components/*"]
  }

  statement {
    sid       = "Bucket"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this.arn]
  }

  # Hosts make a queue for each version of a function, as versions come.
  statement {
    sid = "Queues"
    actions = [
      "sqs:CreateQueue", "sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage",
      "sqs:ChangeMessageVisibility", "sqs:DeleteQueue",
    ]
    resources = ["${local.queue_arn}*"]
  }

  # The bytes of buckets of others stay there, and are read as the notice told of them.
  dynamic "statement" {
    for_each = length(var.attached) > 0 ? [values(var.attached)] : []
    content {
      sid       = "Attached"
      actions   = ["s3:GetObject", "s3:GetObjectVersion"]
      resources = [for of in statement.value : "arn:${local.partition}:s3:::${of.bucket}/${of.prefix}*"]
    }
  }

  dynamic "statement" {
    for_each = aws_kms_key.this[*].arn
    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = anytrue([for of in var.attached : of.kms_key_arn != null]) ? [var.attached] : []
    content {
      sid       = "AttachedKeys"
      actions   = ["kms:Decrypt"]
      resources = compact([for of in statement.value : of.kms_key_arn])
    }
  }
}

resource "aws_iam_policy" "host" {
  name        = "${var.name}-host"
  description = "What a host of the platform ${var.name} may do."
  policy      = data.aws_iam_policy_document.host.json
  tags        = var.tags
}

data "aws_iam_policy_document" "assume" {
  dynamic "statement" {
    for_each = contains(["fargate", "lambda"], var.hosts) ? [var.hosts == "fargate" ? "ecs-tasks" : "lambda"] : []
    content {
      actions = ["sts:AssumeRole"]
      principals {
        type        = "Service"
        identifiers = ["${statement.value}.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = local.oidc_provider
    content {
      actions = ["sts:AssumeRoleWithWebIdentity"]
      principals {
        type        = "Federated"
        identifiers = [statement.value]
      }
      condition {
        test     = "StringEquals"
        variable = "${element(split("oidc-provider/", statement.value), 1)}:sub"
        values   = ["system:serviceaccount:${var.eks.namespace}:${local.service_account}"]
      }
      condition {
        test     = "StringEquals"
        variable = "${element(split("oidc-provider/", statement.value), 1)}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role" "host" {
  count              = var.hosts == "none" ? 0 : 1
  name               = "${var.name}-host"
  description        = "Hosts of the platform ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy_attachment" "host" {
  count      = var.hosts == "none" ? 0 : 1
  role       = aws_iam_role.host[0].name
  policy_arn = aws_iam_policy.host.arn
}
