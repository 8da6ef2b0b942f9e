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
