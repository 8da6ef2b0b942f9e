# Workers with GPUs: as many instances as jobs ask for, none when there are none.

data "aws_ssm_parameter" "ami" {
  count = var.ami == null ? 1 : 0
  name  = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
}

data "aws_region" "this" {}
data "aws_partition" "this" {}

locals {
  ami  = coalesce(var.ami, one(data.aws_ssm_parameter.ami[*].insecure_value))
  keys = distinct(compact(concat([var.kms_key_arn], var.certificate[*].kms_key_arn)))
  # The registry and its region, of an image in ECR.
  ecr = try(regex("^([0-9]+\\.dkr\\.ecr\\.([a-z0-9-]+)\\.amazonaws\\.com[.a-z]*)/", var.image), null)
}

resource "aws_cloudwatch_log_group" "workers" {
  name              = "/tidegate/${var.name}/workers"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_ssm_parameter" "token" {
  name        = "/tidegate/${var.name}/worker-token"
  description = "What the workers of ${var.name} prove themselves with."
  type        = "SecureString"
  key_id      = var.kms_key_arn
  value       = var.worker_token
  tags        = var.tags
}

resource "aws_launch_template" "worker" {
  name                   = var.name
  image_id               = local.ami
  vpc_security_group_ids = [aws_security_group.worker.id]
  update_default_version = true
  tags                   = var.tags

  user_data = base64encode(templatefile("${path.module}/user-data.sh.tftpl", {
    region = data.aws_region.this.name
    token  = aws_ssm_parameter.token.name
    secret = try(var.certificate.secret_arn, null)
    host   = var.host
    image  = var.image
    ecr    = local.ecr
    logs   = aws_cloudwatch_log_group.workers.name
    spot   = var.spot
  }))

  iam_instance_profile {
    arn = aws_iam_instance_profile.worker.arn
  }

  # Containers are one hop further away; they need no credentials, so that they get none.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size           = var.disk_gib
      volume_type           = "gp3"
      encrypted             = true
      kms_key_id            = var.kms_key_arn
      delete_on_termination = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = merge(var.tags, { Name = var.name })
  }
}

resource "aws_autoscaling_group" "worker" {
  name                      = var.name
  min_size                  = var.size.min
  max_size                  = var.size.max
  vpc_zone_identifier       = var.subnets
  health_check_type         = "EC2"
  health_check_grace_period = 300
  # A spot instance that is likely to be taken away is replaced before it is.
  capacity_rebalance = var.spot
  # No worker is ended for the sake of even zones.
  suspended_processes = ["AZRebalance"]

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 0
      on_demand_percentage_above_base_capacity = var.spot ? 0 : 100
      spot_allocation_strategy                 = "price-capacity-optimized"
      spot_max_price                           = var.max_price
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.worker.id
        version            = aws_launch_template.worker.latest_version
      }

      dynamic "override" {
        for_each = var.instance_types
        content {
          instance_type = override.value
        }
      }
    }
  }

  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 50
    }
  }

  dynamic "tag" {
    for_each = var.tags
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  lifecycle {
    # Scaling's.
    ignore_changes = [desired_capacity]
  }
}

resource "aws_security_group" "worker" {
  name        = var.name
  description = "Workers of ${var.name}; nobody calls them."
  vpc_id      = var.vpc_id
  tags        = var.tags

  egress {
    description = "Hosts, AWS, and where the image comes from"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = ["0.0.0.0/0"]
  }
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "worker" {
  name               = var.name
  description        = "Instances of ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

# No rights on the platform's table, bucket or queues: a worker reads and writes through the hosts, within a job's grants.
data "aws_iam_policy_document" "worker" {
  statement {
    sid       = "Token"
    actions   = ["ssm:GetParameter"]
    resources = [aws_ssm_parameter.token.arn]
  }

  statement {
    sid       = "Lines"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.workers.arn}:*"]
  }

  dynamic "statement" {
    for_each = var.certificate[*].secret_arn
    content {
      sid       = "Certificate"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = length(local.keys) == 0 ? [] : [local.keys]
    content {
      sid       = "Keys"
      actions   = ["kms:Decrypt"]
      resources = statement.value
    }
  }
}

resource "aws_iam_role_policy" "worker" {
  name   = "token"
  role   = aws_iam_role.worker.name
  policy = data.aws_iam_policy_document.worker.json
}

resource "aws_iam_role_policy_attachment" "images" {
  role       = aws_iam_role.worker.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly"
}

resource "aws_iam_instance_profile" "worker" {
  name = var.name
  role = aws_iam_role.worker.name
  tags = var.tags
}
