# The feed-ranking app, from a file dropped into `data/raw/` to `POST /predict`, with a platform of its own or on one that is
# there already.

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.0"
    }
  }
}

# A platform of its own, unless there is one already.
module "platform" {
  source = "../../modules/platform"
  count  = var.platform == null ? 1 : 0

  name            = var.name
  hosts           = var.hosts
  image           = var.image
  domain          = var.domain
  certificate_arn = var.certificate_arn
  vpc_id          = var.vpc_id
  private_subnets = var.private_subnets
  public_subnets  = var.public_subnets
  route_tables    = var.route_tables
  alarm_emails    = var.alarm_emails
}

locals {
  platform = var.platform == null ? one(module.platform[*].store) : var.platform

  # The app as `app.tf` has it, with the variables that are set here.
  manifest = merge(local.feed-ranking, {
    function = [for function in local.feed-ranking.function : merge(function, {
      for key in ["variables"] : key => merge(try(function.variables, {}), var.variables[function.name])
      if contains(keys(var.variables), function.name)
    })]
  })
}

module "app" {
  source = "../../modules/app"

  platform        = local.platform
  manifest        = local.manifest
  components      = var.components
  aliases         = var.aliases
  wait            = var.wait
  create_policies = var.create_policies
}
