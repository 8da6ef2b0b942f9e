# The host as a Lambda function: behind an HTTP API for requests. lambda-events.tf has what else it is invoked with; its
# package is described in docs/lambda.md.

locals {
  lambda = var.hosts == "lambda" ? 1 : 0
  # Seconds of an invocation.
  lambda_timeout = 60
}

# Lambda takes up to 50 MB by hand, and larger packages from a bucket.
resource "aws_s3_object" "package" {
  count       = local.lambda
  bucket      = aws_s3_bucket.this.bucket
  key         = "packages/${try(filesha256(var.package), "none")}.zip"
  source      = var.package
  source_hash = try(filesha256(var.package), null)
  kms_key_id  = local.key_arn
  tags        = var.tags

  lifecycle {
    precondition {
      condition     = var.package != null && try(fileexists(var.package), false)
      error_message = "`hosts = \"lambda\"` needs `package`, the zip of `cargo xtask package lambda`; found ${var.package == null ? "none" : "no file `${var.package}`"}."
    }
    # The function as it was is Lambda's to start as long as the new one is not there.
    create_before_destroy = true
  }
}

resource "aws_lambda_function" "host" {
  count            = local.lambda
  function_name    = "${var.name}-host"
  description      = "A host of the platform ${var.name}."
  role             = aws_iam_role.host[0].arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  s3_bucket        = aws_s3_object.package[0].bucket
  s3_key           = aws_s3_object.package[0].key
  source_code_hash = try(filebase64sha256(var.package), null)
  architectures    = [lower(var.architecture)]
  memory_size      = var.size.memory
  timeout          = local.lambda_timeout
  kms_key_arn      = local.key_arn
  tags             = var.tags

  environment {
    variables = {
      TIDEGATE_CONFIG_TEXT = local.config
      TIDEGATE_LOG         = "json"
    }
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.hosts.name
  }
}

# An event that leads to another one goes through the queue that invoked the function: Lambda would take a run of more than
# sixteen steps for a loop, and stop it. How often an event is tried, and how far it leads, is the host's to bound.
resource "aws_lambda_function_recursion_config" "host" {
  count          = local.lambda
  function_name  = aws_lambda_function.host[0].function_name
  recursive_loop = "Allow"
}

data "aws_iam_policy_document" "lines" {
  statement {
    sid       = "Lines"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.hosts.arn}:*"]
  }
}

resource "aws_iam_role_policy" "lines" {
  count  = local.lambda
  name   = "lines"
  role   = aws_iam_role.host[0].name
  policy = data.aws_iam_policy_document.lines.json
}

resource "aws_apigatewayv2_api" "host" {
  count         = local.lambda
  name          = var.name
  protocol_type = "HTTP"
  tags          = var.tags
}

resource "aws_apigatewayv2_integration" "host" {
  count                  = local.lambda
  api_id                 = aws_apigatewayv2_api.host[0].id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.host[0].invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "host" {
  count     = local.lambda
  api_id    = aws_apigatewayv2_api.host[0].id
  route_key = "$default"
  target    = "integrations/${aws_apigatewayv2_integration.host[0].id}"
}

resource "aws_apigatewayv2_stage" "host" {
  count       = local.lambda
  api_id      = aws_apigatewayv2_api.host[0].id
  name        = "$default"
  auto_deploy = true
  tags        = var.tags
}

resource "aws_lambda_permission" "api" {
  count         = local.lambda
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.host[0].function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.host[0].execution_arn}/*"
}

resource "aws_apigatewayv2_domain_name" "host" {
  count       = local.lambda == 1 && var.domain != null ? 1 : 0
  domain_name = var.domain
  tags        = var.tags

  domain_name_configuration {
    certificate_arn = var.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }

  lifecycle {
    precondition {
      condition     = var.certificate_arn != null
      error_message = "`domain` needs `certificate_arn`, the certificate of `${var.domain}`."
    }
  }
}

resource "aws_apigatewayv2_api_mapping" "host" {
  count       = length(aws_apigatewayv2_domain_name.host)
  api_id      = aws_apigatewayv2_api.host[0].id
  domain_name = aws_apigatewayv2_domain_name.host[0].id
  stage       = aws_apigatewayv2_stage.host[0].id
}
