# The host as a Lambda function: behind an HTTP API for requests. lambda-events.tf has what else it is invoked with; its
# package is described in docs/lambda.md.

locals {
  lambda = var.hosts == "lambda" ? 1 : 0
  # Seconds of an invocation.
  lambda_timeout = 60
}

resource "aws_lambda_function" "host" {
  count            = local.lambda
  function_name    = "${var.name}-host"
  description      = "A host of the platform ${var.name}."
  role             = aws_iam_role.host[0].arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  filename         = var.package
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

  lifecycle {
    precondition {
      condition     = var.package != null
      error_message = "`hosts = \"lambda\"` needs `package`, the zip of `cargo xtask package lambda`."
    }
  }
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
}

resource "aws_apigatewayv2_api_mapping" "host" {
  count       = length(aws_apigatewayv2_domain_name.host)
  api_id      = aws_apigatewayv2_api.host[0].id
  domain_name = aws_apigatewayv2_domain_name.host[0].id
  stage       = aws_apigatewayv2_stage.host[0].id
}
