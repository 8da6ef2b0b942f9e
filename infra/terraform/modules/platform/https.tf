# HTTPS: a load balancer with the certificate of the domain. Between it and the hosts there is TLS as well.

resource "aws_security_group" "balancer" {
  count       = local.fargate
  name        = "${var.name}-balancer"
  description = "The load balancer of the platform ${var.name}."
  vpc_id      = var.vpc_id
  tags        = var.tags

  dynamic "ingress" {
    for_each = local.faces
    content {
      description = "HTTPS"
      protocol    = "tcp"
      from_port   = ingress.value.listen
      to_port     = ingress.value.listen
      cidr_blocks = ["0.0.0.0/0"]
    }
  }

  egress {
    description = "Hosts"
    protocol    = "tcp"
    from_port   = 8080
    to_port     = 9000
    cidr_blocks = local.vpc_cidrs
  }
}

resource "aws_lb" "this" {
  count                      = local.fargate
  name                       = var.name
  load_balancer_type         = "application"
  security_groups            = aws_security_group.balancer[*].id
  subnets                    = var.public_subnets
  drop_invalid_header_fields = true
  # Shorter than the hosts keep a connection (`gateway.head_timeout`).
  idle_timeout               = 60
  enable_deletion_protection = var.deletion_protection
  tags                       = var.tags
}

resource "aws_lb_target_group" "host" {
  for_each             = { for port, face in local.faces : port => face if local.fargate == 1 }
  name                 = "${var.name}-${each.key}"
  target_type          = "ip"
  port                 = tonumber(each.key)
  protocol             = "HTTPS"
  protocol_version     = each.value.version
  vpc_id               = var.vpc_id
  deregistration_delay = 30
  tags                 = var.tags

  health_check {
    protocol            = "HTTPS"
    port                = each.value.health_port
    path                = each.value.health
    matcher             = each.value.healthy
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "host" {
  for_each          = aws_lb_target_group.host
  load_balancer_arn = aws_lb.this[0].arn
  port              = local.faces[each.key].listen
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  tags              = var.tags

  default_action {
    type             = "forward"
    target_group_arn = each.value.arn
  }
}

resource "aws_wafv2_web_acl" "this" {
  count       = var.waf ? 1 : 0
  name        = var.name
  description = "Before the hosts of ${var.name}."
  scope       = "REGIONAL"
  tags        = var.tags

  lifecycle {
    precondition {
      condition     = contains(["fargate", "eks"], var.hosts)
      error_message = "`waf` is for `fargate` and `eks`: AWS WAF has no place before an HTTP API, which `lambda` has, nor before hosts that are not here."
    }
  }

  default_action {
    allow {}
  }

  rule {
    name     = "common"
    priority = 1
    override_action {
      none {}
    }
    statement {
      managed_rule_group_statement {
        vendor_name = "AWS"
        name        = "AWSManagedRulesCommonRuleSet"
        # Bodies of predictions and uploads are larger than the 8 KiB that it allows; hosts have a bound of their own.
        rule_action_override {
          name = "SizeRestrictions_BODY"
          action_to_use {
            count {}
          }
        }
      }
    }
    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${var.name}-common"
      sampled_requests_enabled   = true
    }
  }

  rule {
    name     = "rate"
    priority = 2
    action {
      block {}
    }
    statement {
      rate_based_statement {
        limit              = var.requests_per_address
        aggregate_key_type = "IP"
      }
    }
    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${var.name}-rate"
      sampled_requests_enabled   = true
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = var.name
    sampled_requests_enabled   = true
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count        = var.waf ? local.fargate : 0
  resource_arn = aws_lb.this[0].arn
  web_acl_arn  = aws_wafv2_web_acl.this[0].arn
}
