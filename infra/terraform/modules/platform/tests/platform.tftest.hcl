mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_vpc" {
    defaults = { cidr_block = "10.0.0.0/16" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/one" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/tidegate-host" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/tidegate-host" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:tidegate-alarms" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:tidegate-notices-dead" }
  }
  mock_resource "aws_dynamodb_table" {
    defaults = { arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/tidegate" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/tidegate/tidegate" }
  }
  mock_resource "aws_ssm_parameter" {
    defaults = { arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/tidegate/tidegate/config" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/tidegate/1", arn_suffix = "app/tidegate/1" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/tidegate/1" }
  }
  mock_resource "aws_lb_listener" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/tidegate/1/2" }
  }
  mock_resource "aws_wafv2_web_acl" {
    defaults = { arn = "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/tidegate/1" }
  }
  mock_resource "aws_appautoscaling_policy" {
    defaults = { arn = "arn:aws:autoscaling:eu-central-1:123456789012:scalingPolicy:1" }
  }
  mock_resource "aws_lambda_function" {
    defaults = {
      arn        = "arn:aws:lambda:eu-central-1:123456789012:function:tidegate-host"
      invoke_arn = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-central-1:123456789012:function:tidegate-host/invocations"
    }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/tidegate-tick" }
  }
  mock_resource "aws_apigatewayv2_api" {
    defaults = { execution_arn = "arn:aws:execute-api:eu-central-1:123456789012:one" }
  }
}

variables {
  image           = "registry.example.com/tidegate:1"
  domain          = "tide.example.com"
  certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/one"
  vpc_id          = "vpc-1"
  private_subnets = ["subnet-1", "subnet-2"]
  public_subnets  = ["subnet-3", "subnet-4"]
  route_tables    = ["rtb-1"]
}

run "storage_is_private_encrypted_versioned_and_can_be_restored" {
  assert {
    condition     = aws_dynamodb_table.this.point_in_time_recovery[0].enabled && aws_dynamodb_table.this.deletion_protection_enabled
    error_message = "The table cannot be restored, or can be deleted."
  }
  assert {
    condition     = one(aws_dynamodb_table.this.server_side_encryption).kms_key_arn == aws_kms_key.this[0].arn
    error_message = "The table is not encrypted with the platform's key."
  }
  assert {
    condition     = aws_dynamodb_table.this.hash_key == "pk" && aws_dynamodb_table.this.range_key == "sk" && aws_dynamodb_table.this.ttl[0].attribute_name == "ttl"
    error_message = "The table is not the one that hosts expect."
  }
  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "The bucket keeps no versions."
  }
  assert {
    condition     = alltrue([for what in ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"] : aws_s3_bucket_public_access_block.this[what]])
    error_message = "The bucket can be made public."
  }
  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
    error_message = "The bucket is not encrypted with KMS."
  }
  assert {
    condition     = join(" ", sort(flatten([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : [for step in rule.transition : step.storage_class]]))) == "GLACIER_IR STANDARD_IA"
    error_message = "Blobs do not go to colder classes."
  }
  assert {
    condition     = aws_s3_bucket.this.bucket == "tidegate-123456789012-eu-central-1" && !aws_s3_bucket.this.force_destroy
    error_message = "The bucket has another name, or can be destroyed with what is in it."
  }
}

run "hosts_on_fargate_answer_over_https_only_and_scale_on_queue_age" {
  variables {
    waf     = true
    s3_keys = { access_key = "one", secret_key = "two" }
  }

  assert {
    condition     = alltrue([for listener in aws_lb_listener.host : listener.protocol == "HTTPS"]) && join(" ", keys(aws_lb_listener.host)) == "8080 9000"
    error_message = "Something listens without TLS."
  }
  assert {
    condition     = alltrue([for group in aws_lb_target_group.host : group.protocol == "HTTPS" && group.health_check[0].path == "/health"])
    error_message = "There is no TLS between load balancer and hosts, or no health check."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.host[0].container_definitions)[0].readonlyRootFilesystem
    error_message = "The host's root can be written to."
  }
  assert {
    condition     = aws_appautoscaling_target.host[0].min_capacity == 2 && aws_appautoscaling_target.host[0].max_capacity == 10
    error_message = "Hosts do not scale within their bounds."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.scale["more"].threshold == 30 && strcontains(one(aws_cloudwatch_metric_alarm.scale["more"].metric_query).expression, "ApproximateAgeOfOldestMessage")
    error_message = "Hosts do not scale on the age of what waits."
  }
  assert {
    condition     = length(aws_wafv2_web_acl_association.this) == 1
    error_message = "WAF does not stand before the load balancer."
  }
  assert {
    condition     = join(" ", keys(aws_vpc_endpoint.gateway)) == "dynamodb s3" && contains(keys(aws_vpc_endpoint.interface), "sqs")
    error_message = "An endpoint is missing."
  }
  assert {
    condition     = strcontains(nonsensitive(output.config), "secret_key = \"two\"") && strcontains(nonsensitive(output.config), "hosts = [\"tide.example.com\"]")
    error_message = "The configuration lacks something."
  }
}

run "what_is_wrong_is_told" {
  variables {
    alarm_emails = ["on-call@example.com"]
  }

  assert {
    condition = alltrue([
      for alarm in concat([aws_cloudwatch_metric_alarm.queue_age, aws_cloudwatch_metric_alarm.error_rate[0], aws_cloudwatch_metric_alarm.latency[0]], values(aws_cloudwatch_metric_alarm.lines)) :
      contains(alarm.alarm_actions, aws_sns_topic.alarms.arn)
    ])
    error_message = "An alarm tells nobody."
  }
  assert {
    condition     = join(" ", keys(aws_cloudwatch_metric_alarm.lines)) == "dead-letters errors refused"
    error_message = "An alarm is missing."
  }
  assert {
    condition     = aws_cloudwatch_log_group.hosts.retention_in_days == 30
    error_message = "Lines are kept for ever."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.notices.redrive_policy).maxReceiveCount == 10
    error_message = "The queue of notices has no dead-letter queue."
  }
}

run "a_store_alone_has_no_hosts" {
  variables {
    hosts                  = "none"
    kms                    = false
    point_in_time_recovery = false
    vpc_endpoints          = false
    cold_after_days        = null
  }

  assert {
    condition     = length(aws_ecs_service.host) + length(aws_lambda_function.host) + length(aws_sqs_queue.intake) + length(aws_lb.this) + length(aws_iam_role.host) + length(aws_kms_key.this) == 0
    error_message = "Something is made besides the store."
  }
  assert {
    condition     = output.store.kms_key_arn == null && output.store.table_name == "tidegate"
    error_message = "The store is not told of as it is."
  }
}

run "the_host_as_a_lambda_function_stands_behind_an_http_api" {
  variables {
    hosts   = "lambda"
    package = "./tests/platform.tftest.hcl"
  }

  assert {
    condition     = aws_lambda_function.host[0].runtime == "provided.al2023" && aws_lambda_function.host[0].handler == "bootstrap"
    error_message = "The function is not the one that the package has."
  }
  assert {
    condition     = aws_apigatewayv2_integration.host[0].payload_format_version == "2.0" && length(aws_apigatewayv2_api_mapping.host) == 1
    error_message = "The API does not lead to the function."
  }
  assert {
    condition     = join(" ", keys(aws_lambda_event_source_mapping.queues)) == "events notices" && alltrue([for mapping in aws_lambda_event_source_mapping.queues : mapping.function_response_types == toset(["ReportBatchItemFailures"])])
    error_message = "Messages do not invoke the function, or one that fails takes its batch with it."
  }
  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.intake[0], aws_sqs_queue.notices] : queue.visibility_timeout_seconds >= 6 * aws_lambda_function.host[0].timeout && jsondecode(queue.redrive_policy).maxReceiveCount == 10])
    error_message = "A message comes again while it is handled, or for ever."
  }
  assert {
    condition     = strcontains(nonsensitive(output.config), "intake = \"tidegate-intake\"")
    error_message = "The configuration does not name the queue of all events."
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_target.tick[0].input).tidegate == "tick" && aws_cloudwatch_event_rule.tick[0].schedule_expression == "rate(1 minute)"
    error_message = "Nothing fires schedules."
  }
  assert {
    condition     = jsondecode(aws_lambda_invocation.deploy[0].input).tidegate == "deploy"
    error_message = "A new package is not deployed."
  }
  assert {
    condition     = join(" ", keys(aws_cloudwatch_metric_alarm.lambda)) == "errors throttles" && aws_cloudwatch_metric_alarm.intake_dead[0].threshold == 1
    error_message = "An alarm is missing."
  }
}

run "on_eks_there_is_a_role_for_the_service_account" {
  variables {
    hosts         = "eks"
    oidc_provider = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com", url = "oidc.example.com" }
  }

  assert {
    condition     = length(aws_iam_role.host) == 1 && length(aws_ecs_service.host) == 0
    error_message = "EKS needs a role and nothing else."
  }
}

run "fargate_without_a_network_is_refused" {
  command = plan

  variables {
    private_subnets = []
  }

  expect_failures = [aws_ecs_task_definition.host]
}

run "eks_without_a_provider_is_refused" {
  command = plan

  variables {
    hosts = "eks"
  }

  expect_failures = [aws_iam_role.host]
}

run "other_hosts_are_refused" {
  command = plan

  variables {
    hosts = "mainframe"
  }

  expect_failures = [var.hosts]
}
