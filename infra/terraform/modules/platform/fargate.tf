# Hosts as tasks on Fargate: at least two, more while events wait, behind a load balancer that speaks HTTPS.

locals {
  fargate   = var.hosts == "fargate" ? 1 : 0
  over_http = { version = "HTTP1", health_port = "8080", health = "/health", healthy = "200" }
  # By port of the host: where the load balancer listens for it, and how either is spoken to.
  faces = merge(
    { "8080" = merge(local.over_http, { listen = 443 }) },
    # Any answer by gRPC is one of a host that lives; whether it drains is told at the other port.
    var.grpc ? { "8081" = {
      version = "GRPC", listen = 8081, health_port = "8081",
      health  = "/inference.GRPCInferenceService/ServerLive", healthy = "0-99",
    } } : {},
    # That there are keys is no secret.
    nonsensitive(var.s3_keys == null) ? {} : { "9000" = merge(local.over_http, { listen = 9000 }) },
  )

  log = {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.hosts.name
      awslogs-region        = local.region
      awslogs-stream-prefix = "host"
    }
  }

  # It starts before the host and ends after it, so that what drains can still ask its models. They speak over the task's own
  # loopback.
  workers = [for worker in var.worker[*] : {
    name                   = "worker"
    image                  = worker.image
    command                = ["--standalone"]
    essential              = false
    restartPolicy          = { enabled = true }
    readonlyRootFilesystem = true
    stopTimeout            = 60
    mountPoints            = [{ sourceVolume = "worker-tmp", containerPath = "/tmp", readOnly = false }]
    environment = concat(
      [
        { name = "TIDEGATE_HOST", value = "http://127.0.0.1:8080" },
        { name = "TIDEGATE_MODEL_MEMORY", value = tostring(var.size.memory * 524288) },
      ],
      [for part in compact([worker.only]) : { name = "TIDEGATE_WORKER_ONLY", value = part }],
    )
    secrets          = [{ name = "TIDEGATE_WORKER_TOKEN", valueFrom = one(aws_ssm_parameter.worker_token[*].arn) }]
    logConfiguration = merge(local.log, { options = merge(local.log.options, { awslogs-stream-prefix = "worker" }) })
  }]
}

resource "aws_ecs_cluster" "this" {
  count = local.fargate
  name  = var.name
  tags  = var.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_task_definition" "host" {
  count                    = local.fargate
  family                   = "${var.name}-host"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.size.cpu
  memory                   = var.size.memory
  task_role_arn            = aws_iam_role.host[0].arn
  execution_role_arn       = aws_iam_role.start[0].arn
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  # The images declare these places, so that the volumes are the user's who writes there.
  dynamic "volume" {
    for_each = concat(["data", "tmp"], [for worker in local.workers : "worker-tmp"])
    content {
      name = volume.value
    }
  }

  container_definitions = jsonencode(concat([{
    name                   = "host"
    image                  = var.image
    essential              = true
    readonlyRootFilesystem = true
    # Longer than the host's own `drain`.
    stopTimeout  = 60
    dependsOn    = [for worker in local.workers : { containerName = worker.name, condition = "START" }]
    portMappings = [for port in keys(local.faces) : { containerPort = tonumber(port), protocol = "tcp" }]
    mountPoints = [
      { sourceVolume = "data", containerPath = "/var/lib/tidegate", readOnly = false },
      { sourceVolume = "tmp", containerPath = "/tmp", readOnly = false },
    ]
    environment      = [{ name = "TIDEGATE_LOG", value = "json" }]
    secrets          = [{ name = "TIDEGATE_CONFIG_TEXT", valueFrom = aws_ssm_parameter.config[0].arn }]
    logConfiguration = local.log
  }], local.workers))

  lifecycle {
    precondition {
      condition     = var.image != null && var.vpc_id != null && length(var.private_subnets) > 0 && length(var.public_subnets) > 1
      error_message = "`hosts = \"fargate\"` needs `image`, `vpc_id`, `private_subnets`, and two `public_subnets` at least."
    }
    precondition {
      condition     = var.domain != null && var.certificate_arn != null
      error_message = "`hosts = \"fargate\"` needs `domain` and `certificate_arn`: nothing answers over plain HTTP."
    }
  }
}

# What starts a task: pulls its image, reads its configuration, writes its lines.
resource "aws_iam_role" "start" {
  count       = local.fargate
  name        = "${var.name}-start"
  description = "Starts hosts of the platform ${var.name}."
  tags        = var.tags

  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy_attachment" "start" {
  count      = local.fargate
  role       = aws_iam_role.start[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "start" {
  statement {
    sid       = "Config"
    actions   = ["ssm:GetParameters"]
    resources = concat(aws_ssm_parameter.config[*].arn, aws_ssm_parameter.worker_token[*].arn)
  }

  dynamic "statement" {
    for_each = aws_kms_key.this[*].arn
    content {
      sid       = "Key"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "start" {
  count  = local.fargate
  name   = "config"
  role   = aws_iam_role.start[0].name
  policy = data.aws_iam_policy_document.start.json
}

resource "aws_ecs_service" "host" {
  count           = local.fargate
  name            = "${var.name}-host"
  cluster         = aws_ecs_cluster.this[0].id
  task_definition = aws_ecs_task_definition.host[0].arn
  desired_count   = var.count_of_hosts.min
  launch_type     = "FARGATE"
  # The first start compiles what is deployed.
  health_check_grace_period_seconds = 300
  propagate_tags                    = "SERVICE"
  tags                              = var.tags

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = var.private_subnets
    security_groups = aws_security_group.host[*].id
  }

  dynamic "load_balancer" {
    for_each = toset(keys(local.faces))
    content {
      target_group_arn = aws_lb_target_group.host[load_balancer.value].arn
      container_name   = "host"
      container_port   = tonumber(load_balancer.value)
    }
  }

  lifecycle {
    # Autoscaling's.
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.host, aws_iam_role_policy_attachment.host]
}

resource "aws_security_group" "host" {
  count       = local.fargate
  name        = "${var.name}-host"
  description = "Hosts of the platform ${var.name}."
  vpc_id      = var.vpc_id
  tags        = var.tags

  dynamic "ingress" {
    for_each = keys(local.faces)
    content {
      description     = "The load balancer"
      protocol        = "tcp"
      from_port       = tonumber(ingress.value)
      to_port         = tonumber(ingress.value)
      security_groups = aws_security_group.balancer[*].id
    }
  }

  egress {
    description = "AWS, and what functions are granted"
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_appautoscaling_target" "host" {
  count              = local.fargate
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.this[0].name}/${aws_ecs_service.host[0].name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.count_of_hosts.min
  max_capacity       = var.count_of_hosts.max
}

resource "aws_appautoscaling_policy" "more" {
  count              = local.fargate
  name               = "${var.name}-events-wait"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.host[0].service_namespace
  resource_id        = aws_appautoscaling_target.host[0].resource_id
  scalable_dimension = aws_appautoscaling_target.host[0].scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type          = "PercentChangeInCapacity"
    min_adjustment_magnitude = 1
    cooldown                 = 60
    metric_aggregation_type  = "Maximum"

    # Beyond the bound a half more, beyond five times of it twice as many.
    step_adjustment {
      scaling_adjustment          = 50
      metric_interval_lower_bound = 0
      metric_interval_upper_bound = 4 * var.count_of_hosts.queue_age_seconds
    }
    step_adjustment {
      scaling_adjustment          = 100
      metric_interval_lower_bound = 4 * var.count_of_hosts.queue_age_seconds
    }
  }
}

resource "aws_appautoscaling_policy" "fewer" {
  count              = local.fargate
  name               = "${var.name}-nothing-waits"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.host[0].service_namespace
  resource_id        = aws_appautoscaling_target.host[0].resource_id
  scalable_dimension = aws_appautoscaling_target.host[0].scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type = "ChangeInCapacity"
    cooldown        = 300

    step_adjustment {
      scaling_adjustment          = -1
      metric_interval_upper_bound = 0
    }
  }
}

# The region's oldest message: queues come and go with versions, so that no alarm could name them. Where there is no queue,
# nothing waits.
resource "aws_cloudwatch_metric_alarm" "scale" {
  for_each = { for name, change in {
    more  = { comparison = "GreaterThanOrEqualToThreshold", periods = 1, missing = "notBreaching", action = one(aws_appautoscaling_policy.more[*].arn) }
    fewer = { comparison = "LessThanThreshold", periods = 10, missing = "breaching", action = one(aws_appautoscaling_policy.fewer[*].arn) }
  } : name => change if local.fargate == 1 }
  alarm_name          = "${var.name}-scale-${each.key}"
  alarm_description   = "Changes the number of hosts."
  comparison_operator = each.value.comparison
  evaluation_periods  = each.value.periods
  threshold           = var.count_of_hosts.queue_age_seconds
  treat_missing_data  = each.value.missing
  alarm_actions       = [each.value.action]
  tags                = var.tags

  metric_query {
    id          = "age"
    expression  = local.queue_age
    period      = 60
    return_data = true
  }
}
