# The feed-ranking app, from a file dropped into `data/raw/` to `POST /predict`, with a platform of its own or on one that is
# there already.

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

# A platform of its own, unless there is one already.
module "platform" {
  source = "../../modules/platform"
  count  = var.platform == null ? 1 : 0

  name            = var.name
  image           = var.image
  worker          = local.worker
  size            = { cpu = var.worker_image == null ? 1024 : 2048, memory = var.worker_image == null ? 2048 : 4096 }
  api_token       = var.api_token
  worker_token    = var.worker_token
  s3_keys         = var.s3_keys
  domain          = var.domain
  certificate_arn = var.certificate_arn
  vpc_id          = var.vpc_id
  private_subnets = var.private_subnets
  public_subnets  = var.public_subnets
  route_tables    = var.route_tables
  alarm_emails    = var.alarm_emails
}

# Where there are GPUs, they train, and the workers beside the hosts answer inference alone.
module "gpus" {
  source = "../../modules/gpu-pool"
  count  = var.platform == null && var.gpu_image != null ? 1 : 0

  name         = "${var.name}-gpu"
  host         = module.platform[0].url
  worker_token = var.worker_token
  image        = var.gpu_image
  queues       = module.platform[0].queues
  vpc_id       = var.vpc_id
  subnets      = var.private_subnets
  kms_key_arn  = module.platform[0].store.kms_key_arn
}

locals {
  worker = var.worker_image == null ? null : {
    image = var.worker_image
    only  = var.gpu_image == null ? null : "inference"
  }
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
  alarms          = var.alarms
  create_policies = var.create_policies
}
