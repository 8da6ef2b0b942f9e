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
    defaults = { cidr_block_associations = [
      { association_id = "one", cidr_block = "10.0.0.0/16", state = "associated" },
      { association_id = "two", cidr_block = "100.64.0.0/16", state = "associated" },
    ] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_eks_cluster" {
    defaults = { identity = [{ oidc = [{ issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/ONE" }] }] }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ONE" }
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
    waf          = true
    grpc         = true
    worker       = { image = "registry.example.com/tidegate-worker:1" }
    worker_token = "three"
    s3_keys      = { access_key = "one", secret_key = "two" }
  }

  assert {
    condition     = alltrue([for listener in aws_lb_listener.host : listener.protocol == "HTTPS"]) && join(" ", [for port, listener in aws_lb_listener.host : "${listener.port}:${port}"]) == "443:8080 8081:8081 9000:9000"
    error_message = "Something listens without TLS, or not where it should."
  }
  assert {
    condition     = alltrue([for group in aws_lb_target_group.host : group.protocol == "HTTPS"]) && join(" ", [for group in aws_lb_target_group.host : group.protocol_version]) == "HTTP1 GRPC HTTP1"
    error_message = "There is no TLS between load balancer and hosts, or they do not speak as the hosts do."
  }
  assert {
    condition = alltrue([
      for container in jsondecode(aws_ecs_task_definition.host[0].container_definitions) :
      container.readonlyRootFilesystem && contains([for mount in container.mountPoints : mount.containerPath], "/tmp")
    ])
    error_message = "A container's root can be written to, or it has no place for temporary files."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.host[0].container_definitions)[0].dependsOn == [{ containerName = "worker", condition = "START" }]
    error_message = "The worker beside the host does not end after it."
  }
  assert {
    condition     = { for set in jsondecode(aws_ecs_task_definition.host[0].container_definitions)[1].environment : set.name => set.value } == { TIDEGATE_HOST = "http://127.0.0.1:8080", TIDEGATE_MODEL_MEMORY = "1073741824" }
    error_message = "The worker beside the host is told something else."
  }
  assert {
    condition     = one(aws_security_group.endpoints[0].ingress).cidr_blocks == tolist(["10.0.0.0/16", "100.64.0.0/16"])
    error_message = "An endpoint is closed to a part of the VPC."
  }
  assert {
    condition     = aws_appautoscaling_target.host[0].min_capacity == 2 && aws_appautoscaling_target.host[0].max_capacity == 10
    error_message = "Hosts do not scale within their bounds."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.scale["more"].threshold == 30 && one(aws_cloudwatch_metric_alarm.scale["more"].metric_query).expression == "SELECT MAX(ApproximateAgeOfOldestMessage) FROM SCHEMA(\"AWS/SQS\", QueueName) WHERE QueueName != 'tidegate-notices-dead'"
    error_message = "Hosts do not scale on the age of what waits, or a dead letter has them scale for ever."
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
    condition     = strcontains(nonsensitive(output.config), "secret_key = \"two\"") && strcontains(nonsensitive(output.config), "hosts = [\"tide.example.com\"]") && strcontains(nonsensitive(output.config), "listen = \"0.0.0.0:8081\"")
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
    condition     = jsondecode(aws_sqs_queue.notices.redrive_policy).maxReceiveCount == 10 && join(" ", keys(aws_cloudwatch_metric_alarm.dead)) == "notices"
    error_message = "The queue of notices has no dead-letter queue, or nobody hears of what is in it."
  }
  assert {
    condition     = contains([for query in aws_cloudwatch_metric_alarm.error_rate[0].metric_query : try(one(query.metric).metric_name, "")], "HTTPCode_ELB_5XX_Count")
    error_message = "What the load balancer answers itself, as no host does, is not counted."
  }
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.key.statement : length(statement.condition) > 0
      if !contains(["Account", "Services"], statement.sid)
    ])
    error_message = "The key is open to others."
  }
}

run "a_bucket_of_others_tells_of_its_objects_and_hosts_may_read_them" {
  variables {
    attached = {
      acme = { bucket = "acme-raw", prefix = "in/" }
      more = { bucket = "acme-raw", prefix = "more/" }
      theirs = {
        bucket      = "theirs"
        notify      = false
        kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/theirs"
      }
    }
  }

  assert {
    condition     = join(" ", keys(aws_s3_bucket_notification.attached)) == "acme-raw" && join(" ", [for queue in aws_s3_bucket_notification.attached["acme-raw"].queue : queue.filter_prefix]) == "in/ more/"
    error_message = "A bucket tells of something else, or the notifications of somebody else's bucket are written over."
  }
  assert {
    condition     = one([for statement in data.aws_iam_policy_document.host.statement : sort(statement.resources) if statement.sid == "Attached"]) == tolist(["arn:aws:s3:::acme-raw/in/*", "arn:aws:s3:::acme-raw/more/*", "arn:aws:s3:::theirs/*"])
    error_message = "Hosts may not read what is attached, or more than that."
  }
  assert {
    condition     = one([for statement in data.aws_iam_policy_document.host.statement : statement.resources if statement.sid == "AttachedKeys"]) == toset(["arn:aws:kms:eu-central-1:123456789012:key/theirs"])
    error_message = "Hosts cannot decrypt what is attached."
  }
  assert {
    condition     = strcontains(nonsensitive(output.config), "[attached.acme]\nbucket = \"acme-raw\"\nprefix = \"in/\"\nqueue = \"tidegate-notices\"")
    error_message = "Hosts do not know of the bucket."
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
    hosts    = "lambda"
    package  = "./tests/platform.tftest.hcl"
    attached = { acme = { bucket = "acme-raw" } }
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
    condition     = strcontains(nonsensitive(output.config), "intake = \"tidegate-intake\"") && !strcontains(nonsensitive(output.config), "queue = ")
    error_message = "The configuration does not name the queue of all events, or one of notices, which Lambda hands over."
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
    condition     = join(" ", keys(aws_cloudwatch_metric_alarm.lambda)) == "errors throttles" && join(" ", keys(aws_cloudwatch_metric_alarm.dead)) == "intake notices"
    error_message = "An alarm is missing."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.latency[0].threshold == 2000 && aws_cloudwatch_metric_alarm.latency[0].namespace == "AWS/ApiGateway"
    error_message = "Nobody hears of slow requests."
  }
  assert {
    condition     = startswith(aws_lambda_function.host[0].s3_key, "packages/") && aws_lambda_function_recursion_config.host[0].recursive_loop == "Allow"
    error_message = "A package beyond 50 MB is refused, or a run of many steps is taken for a loop."
  }
  assert {
    condition     = output.balancer != null && length(aws_ssm_parameter.config) == 0
    error_message = "A record of the domain has nothing to point to, or there is a parameter that nobody reads."
  }
}

run "on_eks_the_chart_is_told_of_the_platform" {
  variables {
    hosts        = "eks"
    bucket       = "acme-tidegate"
    api_token    = "one"
    worker_token = "two"
    s3_keys      = { access_key = "three", secret_key = "four" }
    attached     = { acme = { bucket = "acme-raw", prefix = "in/" } }
    waf          = true
    eks = {
      cluster       = "ml"
      namespace     = "ml"
      oidc_provider = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ONE" }
      keda          = { role = "keda-operator" }
    }
  }

  assert {
    condition     = length(aws_iam_role.host) == 1 && length(aws_ecs_service.host) + length(aws_lb.this) + length(aws_ssm_parameter.config) + length(aws_iam_openid_connect_provider.cluster) == 0
    error_message = "Something is made that hosts on EKS do not need."
  }
  assert {
    condition = { for condition in one(data.aws_iam_policy_document.assume.statement).condition : condition.variable => one(condition.values) } == {
      "oidc.eks.eu-central-1.amazonaws.com/id/ONE:sub" = "system:serviceaccount:ml:tidegate"
      "oidc.eks.eu-central-1.amazonaws.com/id/ONE:aud" = "sts.amazonaws.com"
    }
    error_message = "Others than the hosts' service account may take the role on."
  }
  # The tests of the chart render it with this very file.
  assert {
    condition     = yamldecode(output.chart_values) == yamldecode(file("./tests/chart-values.yaml"))
    error_message = output.chart_values
  }
  assert {
    condition     = yamldecode(nonsensitive(output.chart_secret)).stringData == { api-token = "one", worker-token = "two", s3-access-key = "three", s3-secret-key = "four" }
    error_message = "The chart's secret lacks something."
  }
  assert {
    condition     = aws_iam_role_policy.keda[0].role == "keda-operator" && contains(keys(aws_vpc_endpoint.interface), "sts") && output.waf_arn != null
    error_message = "KEDA may not read how long events wait, hosts cannot take their role on, or there is no WAF to name."
  }
}

run "a_cluster_without_a_provider_gets_one" {
  variables {
    hosts        = "eks"
    api_token    = "one"
    worker_token = "two"
    s3_keys      = { access_key = "three", secret_key = "four" }
    eks          = { cluster = "ml", release = "first" }
  }

  assert {
    condition     = aws_iam_openid_connect_provider.cluster[0].url == "https://oidc.eks.eu-central-1.amazonaws.com/id/ONE" && one(one(data.aws_iam_policy_document.assume.statement).principals).identifiers == toset([aws_iam_openid_connect_provider.cluster[0].arn])
    error_message = "The cluster's service accounts are not known."
  }
  assert {
    condition     = yamldecode(output.chart_values).autoscaling == { hpa = { enabled = true, minReplicas = 2, maxReplicas = 10 } } && yamldecode(output.chart_values).secretName == "first-tidegate"
    error_message = "The chart is told something else."
  }
}

run "fargate_without_a_network_is_refused" {
  command = plan

  variables {
    private_subnets = []
  }

  expect_failures = [aws_ecs_task_definition.host]
}

run "eks_without_a_cluster_and_without_secrets_is_refused" {
  command = plan

  variables {
    hosts = "eks"
  }

  expect_failures = [output.chart_values, output.chart_secret]
}

run "a_worker_without_a_token_is_refused" {
  command = plan

  variables {
    worker = { image = "registry.example.com/tidegate-worker:1" }
  }

  expect_failures = [aws_ssm_parameter.worker_token]
}

run "a_worker_that_does_something_else_is_refused" {
  command = plan

  variables {
    worker       = { image = "registry.example.com/tidegate-worker:1", only = "naught" }
    worker_token = "one"
  }

  expect_failures = [var.worker]
}

run "endpoints_that_nobody_finds_the_way_to_are_refused" {
  command = plan

  variables {
    route_tables = []
  }

  expect_failures = [aws_vpc_endpoint.gateway]
}

run "lambda_without_a_package_without_a_certificate_and_with_a_waf_is_refused" {
  command = plan

  variables {
    hosts           = "lambda"
    package         = "./tests/nowhere.zip"
    certificate_arn = null
    waf             = true
  }

  expect_failures = [aws_s3_object.package, aws_apigatewayv2_domain_name.host, aws_wafv2_web_acl.this]
}

run "a_name_that_is_too_long_for_what_is_called_by_it_is_refused" {
  command = plan

  variables {
    name = "a-platform-of-twenty-eight-c"
  }

  expect_failures = [var.name]
}

run "other_hosts_are_refused" {
  command = plan

  variables {
    hosts = "mainframe"
  }

  expect_failures = [var.hosts]
}

run "network_platform_pool_and_function_can_be_planned_at_once" {
  command = plan

  module {
    source = "./tests/from-nothing"
  }

  assert {
    condition     = length(module.platform.balancer) == 2
    error_message = "There is no load balancer."
  }
}
