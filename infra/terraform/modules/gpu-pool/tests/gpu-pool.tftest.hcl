mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_ssm_parameter" {
    defaults = { insecure_value = "ami-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_ssm_parameter" {
    defaults = { arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/tidegate/tidegate-gpu/worker-token" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/tidegate-gpu" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_autoscaling_policy" {
    defaults = { arn = "arn:aws:autoscaling:eu-central-1:123456789012:scalingPolicy:1" }
  }
}

variables {
  host         = "https://tide.example.com"
  worker_token = "secret"
  image        = "registry.example.com/tidegate-worker-cuda:1"
  vpc_id       = "vpc-1"
  subnets      = ["subnet-1"]
  queues       = "tidegate-"
}

run "the_pool_goes_from_none_to_as_many_as_jobs_ask_for" {
  assert {
    condition     = aws_autoscaling_group.worker.min_size == 0 && aws_autoscaling_group.worker.max_size == 4
    error_message = "The bounds are others."
  }
  assert {
    condition     = join(" ", [for step in aws_autoscaling_policy.more.step_adjustment : step.scaling_adjustment]) == "1 2 3 4"
    error_message = "The steps are others."
  }
  assert {
    condition = length(aws_cloudwatch_metric_alarm.jobs["more"].metric_query) == 5 && toset(compact([
      for query in aws_cloudwatch_metric_alarm.jobs["more"].metric_query : try(one(query.metric).dimensions.QueueName, "")
    ])) == toset(["tidegate--jobs-train-two-tower-f866a42c", "tidegate--jobs-train-mlp-3843a361"])
    error_message = "The alarm does not look at what waits and what is worked on, of both kinds."
  }
  assert {
    condition     = aws_autoscaling_policy.none.step_adjustment != null && aws_cloudwatch_metric_alarm.jobs["none"].evaluation_periods == 15
    error_message = "An idle pool does not shrink."
  }
}

run "instances_are_spot_and_their_token_is_not_in_the_user_data" {
  assert {
    condition     = one(one(aws_autoscaling_group.worker.mixed_instances_policy).instances_distribution).on_demand_percentage_above_base_capacity == 0 && aws_autoscaling_group.worker.capacity_rebalance
    error_message = "Instances are not spot instances."
  }
  assert {
    condition     = !strcontains(base64decode(aws_launch_template.worker.user_data), "secret") && alltrue([for part in ["https://tide.example.com", "TIDEGATE_HOST_CA", "TIDEGATE_WORKER_ONLY=jobs"] : strcontains(base64decode(aws_launch_template.worker.user_data), part)])
    error_message = "The token is in the user data, or the host is not."
  }
  assert {
    condition     = one(aws_launch_template.worker.metadata_options).http_tokens == "required" && length(aws_security_group.worker.ingress) == 0
    error_message = "An instance can be called, or gives its credentials away."
  }
}

run "images_in_ecr_are_pulled_with_a_login_and_lines_are_kept" {
  variables {
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/tidegate-worker-cuda:1"
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.worker.user_data), "get-login-password --region eu-west-1 | docker login --username AWS --password-stdin 123456789012.dkr.ecr.eu-west-1.amazonaws.com'")
    error_message = "Docker on an instance cannot pull the image."
  }
  assert {
    condition     = strcontains(base64decode(aws_launch_template.worker.user_data), "awslogs-group=${aws_cloudwatch_log_group.workers.name}") && aws_cloudwatch_log_group.workers.retention_in_days == 30
    error_message = "What a worker said is gone with its instance."
  }
  assert {
    condition     = strcontains(base64decode(aws_launch_template.worker.user_data), "spot/instance-action")
    error_message = "A worker works on until its spot instance is taken away."
  }
}

run "instances_on_demand" {
  variables {
    spot = false
    size = { min = 1, max = 2 }
  }

  assert {
    condition     = !strcontains(base64decode(aws_launch_template.worker.user_data), "spot") && !strcontains(base64decode(aws_launch_template.worker.user_data), "docker login")
    error_message = "Instances look for what will not happen."
  }

  assert {
    condition     = one(one(aws_autoscaling_group.worker.mixed_instances_policy).instances_distribution).on_demand_percentage_above_base_capacity == 100
    error_message = "Instances are spot instances."
  }
}

run "a_pool_shows_its_certificate_and_may_read_that_one_secret" {
  variables {
    certificate = {
      secret_arn  = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:workers-AbCdEf"
      kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1"
    }
  }

  assert {
    condition = alltrue([for part in [
      "get-secret-value --region \"eu-west-1\" --secret-id \"arn:aws:secretsmanager:eu-west-1:123456789012:secret:workers-AbCdEf\"",
      "ExecStartPre=/usr/local/bin/tidegate-certificate",
      "install -m 0400 -o 65532 -g 65532 /dev/stdin \"/run/tidegate/$part.pem\"",
      "--volume /run/tidegate:/etc/tidegate/tls:ro",
      "TIDEGATE_CERT_FILE=/etc/tidegate/tls/cert.pem\nTIDEGATE_KEY_FILE=/etc/tidegate/tls/key.pem\nTIDEGATE_CA_FILE=/etc/tidegate/tls/ca.pem\n",
      "/etc/tidegate/tls/host-ca.pem \"$token\"",
    ] : strcontains(base64decode(aws_launch_template.worker.user_data), part)])
    error_message = "A worker does not get its certificate, or others may read it."
  }
  assert {
    condition = {
      for statement in data.aws_iam_policy_document.worker.statement :
      statement.sid => join(" ", concat(tolist(statement.actions), tolist(statement.resources))) if contains(["Certificate", "Keys"], statement.sid)
      } == {
      Certificate = "secretsmanager:GetSecretValue arn:aws:secretsmanager:eu-west-1:123456789012:secret:workers-AbCdEf"
      Keys        = "kms:Decrypt arn:aws:kms:eu-west-1:123456789012:key/1"
    }
    error_message = "Instances may not read their secret, or others as well."
  }
}

run "a_pool_without_a_certificate_reads_no_secret" {
  assert {
    condition     = !strcontains(base64decode(aws_launch_template.worker.user_data), "TIDEGATE_CERT_FILE") && !strcontains(base64decode(aws_launch_template.worker.user_data), "secretsmanager")
    error_message = "Instances look for a certificate that there is not."
  }
  assert {
    condition     = toset(data.aws_iam_policy_document.worker.statement[*].sid) == toset(["Token", "Lines"])
    error_message = "Instances have rights that they do not need."
  }
}

run "secrets_by_a_wildcard_are_refused" {
  command = plan

  variables {
    certificate = { secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:*" }
  }

  expect_failures = [var.certificate]
}

run "a_host_without_tls_is_refused" {
  command = plan

  variables {
    host = "http://tide.example.com"
  }

  expect_failures = [var.host]
}

run "a_pool_without_bounds_is_refused" {
  command = plan

  variables {
    size = { min = 3, max = 2 }
  }

  expect_failures = [var.size]
}

run "a_kind_that_there_is_not_is_refused" {
  command = plan

  variables {
    kinds = ["train.oracle"]
  }

  expect_failures = [var.kinds]
}
