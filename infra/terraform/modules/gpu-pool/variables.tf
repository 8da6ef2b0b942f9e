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
}

variable "job_queues" {
  description = "The names of the SQS queues of the kinds of jobs that the pool is for, as the hosts made them: `aws sqs list-queues --queue-name-prefix tidegate-`."
  type        = list(string)

  validation {
    condition     = length(var.job_queues) >= 1 && length(var.job_queues) <= 5
    error_message = "`job_queues` must name from one to five queues: an alarm looks at ten metrics at most, two of each."
  }
}

variable "idle_minutes" {
  description = "After so many minutes without a job the pool shrinks to `size.min`."
  type        = number
  default     = 15
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

variable "kms_key_arn" {
  description = "A KMS key for the token and the disks."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
