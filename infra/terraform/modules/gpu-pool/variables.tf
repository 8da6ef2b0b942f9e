variable "name" {
  description = "The pool's name, and what the names of everything in it begin with."
  type        = string
  default     = "tidegate-gpu"
}

variable "host" {
  description = "Where the hosts answer, for example `https://tide.example.com`: the output `url` of modules/platform."
  type        = string

  validation {
    condition     = startswith(var.host, "https://")
    error_message = "`host` must begin with `https://`: the worker's token goes there."
  }
}

variable "worker_token" {
  description = "What workers prove themselves with: the `worker_token` of modules/platform."
  type        = string
  sensitive   = true
}

variable "certificate" {
  description = "What workers show to hosts that ask for certificates (`worker.ca_file`): a secret of Secrets Manager whose JSON has `cert`, `key` and `ca` (PEM), and the KMS key that it is encrypted with, where that is not Amazon's own."
  type        = object({ secret_arn = string, kms_key_arn = optional(string) })
  default     = null

  validation {
    condition     = var.certificate == null || can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]+:secret:[^*?]+$", var.certificate.secret_arn))
    error_message = "`certificate.secret_arn` must be the ARN of one secret of Secrets Manager, without wildcards."
  }
}

variable "image" {
  description = "The worker's container image for CUDA (infra/container)."
  type        = string
}

variable "vpc_id" {
  description = "The VPC of the instances."
  type        = string
}

variable "subnets" {
  description = "Subnets of the instances."
  type        = list(string)
}

variable "instance_types" {
  description = "GPU instances, the preferred first; with more than one, spot capacity is found more often."
  type        = list(string)
  default     = ["g5.xlarge", "g6.xlarge", "g4dn.xlarge"]

  validation {
    condition     = length(var.instance_types) > 0
    error_message = "`instance_types` must name one at least."
  }
}

variable "spot" {
  description = "Whether instances are spot instances. One that is taken away loses what its worker did since the last checkpoint, and nothing else."
  type        = bool
  default     = true
}

variable "max_price" {
  description = "The most that a spot instance may cost an hour; the on-demand price by default."
  type        = string
  default     = null
}

variable "size" {
  description = "Instances: `min` at least, which may be 0, and up to `max` as jobs wait."
  type        = object({ min = number, max = number })
  default     = { min = 0, max = 4 }

  validation {
    condition     = var.size.min >= 0 && var.size.max >= max(var.size.min, 1) && var.size.max <= 20
    error_message = "`size` must have 0 <= min <= max, and a `max` from 1 to 20."
  }
}

variable "jobs_per_instance" {
  description = "How many jobs that wait or are worked on each instance is started for."
  type        = number
  default     = 1

  validation {
    condition     = var.jobs_per_instance >= 1
    error_message = "`jobs_per_instance` must be at least 1."
  }
}

variable "kinds" {
  description = "The kinds of jobs whose number the pool follows (docs/training.md). Its workers take jobs of all kinds; those of others have to find some that is there."
  type        = set(string)
  default     = ["train.two-tower", "train.mlp"]

  validation {
    condition = length(setsubtract(var.kinds, [
      "train.two-tower", "train.mlp", "train.gradient-boosting", "train.random-forest", "train.command", "predict.batch", "quantise.onnx",
    ])) == 0
    error_message = "`kinds` may have `train.two-tower`, `train.mlp`, `train.gradient-boosting`, `train.random-forest`, `train.command`, `predict.batch` and `quantise.onnx`; found ${join(", ", var.kinds)}."
  }

  validation {
    condition     = length(var.kinds) >= 1 && length(var.kinds) <= 5
    error_message = "`kinds` must have from one to five: an alarm looks at ten metrics at most, two of each."
  }
}

variable "queues" {
  description = "What the names of the hosts' queues begin with: the output `queues` of modules/platform."
  type        = string
}

variable "idle_minutes" {
  description = "After so many minutes without a job the pool shrinks to `size.min`."
  type        = number
  default     = 15

  validation {
    condition     = var.idle_minutes >= 1 && var.idle_minutes <= 1440
    error_message = "`idle_minutes` must be from 1 to 1,440: an alarm looks back a day at most."
  }
}

variable "ami" {
  description = "An AMI with Docker, NVIDIA's driver and container toolkit; by default ECS's own for GPUs."
  type        = string
  default     = null
}

variable "disk_gib" {
  description = "Root disk of an instance."
  type        = number
  default     = 60
}

variable "log_retention_days" {
  description = "How long the workers' lines are kept."
  type        = number
  default     = 30
}

variable "kms_key_arn" {
  description = "A KMS key for the token, the disks and the log lines, for example the output `store.kms_key_arn` of modules/platform. Another one has to let CloudWatch's logs and the account's role of autoscaling use it."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
