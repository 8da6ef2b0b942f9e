variable "name" {
  description = "The platform's name: of its table, and what the names of everything else begin with."
  type        = string
  default     = "tidegate"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,25}[a-z0-9]$", var.name))
    error_message = "`name` must have 2 to 27 lower-case letters, digits and `-`, start with a letter and not end with `-`: a target group's name has 32 characters at most, and these are the first of it."
  }
}

variable "bucket" {
  description = "The name of the bucket, unique in the world; by default the platform's name, the account and the region."
  type        = string
  default     = null
}

variable "hosts" {
  description = "What the hosts run on: `fargate`, `eks`, `lambda`, or `none` for what keeps their state alone."
  type        = string
  default     = "fargate"

  validation {
    condition     = contains(["fargate", "eks", "lambda", "none"], var.hosts)
    error_message = "`hosts` must be `fargate`, `eks`, `lambda` or `none`."
  }
}

# --- storage

variable "kms" {
  description = "Whether table, bucket, queues, topics and logs are encrypted with a KMS key of the platform's own; otherwise with the services' keys."
  type        = bool
  default     = true
}

variable "point_in_time_recovery" {
  description = "Whether the table can be restored to any second of the last 35 days."
  type        = bool
  default     = true
}

variable "deletion_protection" {
  description = "Whether the table refuses to be deleted, and the bucket while it holds objects."
  type        = bool
  default     = true
}

variable "cold_after_days" {
  description = "Blobs move to S3 Standard-IA after so many days and to Glacier Instant Retrieval after three times as many; null keeps them where they are."
  type        = number
  default     = 30
  nullable    = true

  validation {
    condition     = coalesce(var.cold_after_days, 30) >= 30
    error_message = "`cold_after_days` must be at least 30, S3's own bound."
  }
}

# --- network

variable "vpc_id" {
  description = "The VPC of the hosts; needed for `fargate`, and for VPC endpoints."
  type        = string
  default     = null
}

variable "private_subnets" {
  description = "Subnets of the hosts, and of interface endpoints."
  type        = list(string)
  default     = []
}

variable "public_subnets" {
  description = "Subnets of the load balancer."
  type        = list(string)
  default     = []
}

variable "route_tables" {
  description = "Route tables of the private subnets, for the gateway endpoints of S3 and DynamoDB."
  type        = list(string)
  default     = []
}

variable "vpc_endpoints" {
  description = "Whether VPC endpoints are made in the private subnets, so that hosts reach AWS without the internet. A VPC takes one of each service: where it has some of them already, or another platform's, it is `false`."
  type        = bool
  default     = true
}

# --- hosts

variable "image" {
  description = "The container image of the host, for `fargate` (infra/container)."
  type        = string
  default     = null
}

variable "worker" {
  description = "The worker beside each host on Fargate: the image, and `jobs` or `inference` where it does `only` one of them. Without one nothing answers inference."
  type        = object({ image = string, only = optional(string) })
  default     = null

  validation {
    condition     = try(var.worker.only, null) == null || contains(["jobs", "inference"], coalesce(try(var.worker.only, null), "jobs"))
    error_message = "`worker.only` must be `jobs` or `inference`, or be left out for both."
  }
}

variable "package" {
  description = "The zip of the host, for `lambda` (`cargo xtask package lambda`)."
  type        = string
  default     = null
}

variable "lambda_concurrency" {
  description = "Instances of the host as a Lambda function that take events at one time, and as many that take notices."
  type        = number
  default     = 50

  validation {
    condition     = var.lambda_concurrency >= 2 && var.lambda_concurrency <= 1000
    error_message = "`lambda_concurrency` must be from 2 to 1,000, Lambda's own bounds."
  }
}

variable "architecture" {
  description = "`X86_64` or `ARM64`: what image or package are built for."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "`architecture` must be `X86_64` or `ARM64`."
  }
}

variable "size" {
  description = "CPU units (1,024 for one) and MiB of a host on Fargate, its worker included, whose models may take half of the memory; on Lambda only the memory counts."
  type        = object({ cpu = number, memory = number })
  default     = { cpu = 1024, memory = 2048 }
}

variable "count_of_hosts" {
  description = "Hosts on Fargate and EKS: `min` at least, up to `max` while events wait for longer than `queue_age_seconds`."
  type        = object({ min = number, max = number, queue_age_seconds = optional(number, 30) })
  default     = { min = 2, max = 10 }

  validation {
    condition     = var.count_of_hosts.min >= 0 && var.count_of_hosts.max >= max(var.count_of_hosts.min, 1)
    error_message = "`max` must be at least 1 and no smaller than `min`."
  }
}

variable "domain" {
  description = "The name under which the hosts are called over HTTPS."
  type        = string
  default     = null
}

variable "certificate_arn" {
  description = "The ACM certificate of that name."
  type        = string
  default     = null
}

variable "api_token" {
  description = "What clients of `/api/v1` send (`gateway.api_token`); without one the API answers on the host's own machine only."
  type        = string
  default     = null
  sensitive   = true
}

variable "s3_keys" {
  description = "The keys of Tidegate's S3 endpoint; with them it listens on port 9000 of the load balancer."
  type        = object({ access_key = string, secret_key = string })
  default     = null
  sensitive   = true
}

variable "grpc" {
  description = "Whether models are asked over gRPC as well, on port 8081 of the load balancer. Like the routes of functions it is open to whoever reaches it."
  type        = bool
  default     = false
}

variable "worker_token" {
  description = "What workers prove themselves with (`worker.token`): those beside the hosts, and those of modules/gpu-pool."
  type        = string
  default     = null
  sensitive   = true
}

variable "config" {
  description = "More of the hosts' configuration, as TOML: sections of docs/configuration.md that the module does not write (`[invocations]`, `[requests]`, `[otlp]` and so on). On EKS it goes into the chart's `host.config` instead."
  type        = string
  default     = ""
}

variable "waf" {
  description = "Whether there is AWS WAF, with Amazon's common rules and a rate for each address: before the load balancer of `fargate`; on `eks` for an ingress to name."
  type        = bool
  default     = false
}

variable "requests_per_address" {
  description = "Requests of one address in five minutes, with `waf`."
  type        = number
  default     = 10000
}

variable "eks" {
  description = "For `eks`: the `cluster`'s name, the `namespace` and the name of the chart's `release`; the cluster's `oidc_provider`, which is made where it is left out; and the `role` of `keda`'s operator, which is let read how long events wait."
  type = object({
    cluster       = string
    namespace     = optional(string, "tidegate")
    release       = optional(string, "tidegate")
    oidc_provider = optional(object({ arn = string }))
    keda          = optional(object({ role = string }))
  })
  default = null
}

# --- seeing

variable "log_retention_days" {
  description = "How long the hosts' log lines are kept."
  type        = number
  default     = 30
}

variable "alarm_emails" {
  description = "Who is told of alarms."
  type        = list(string)
  default     = []
}

variable "alarms" {
  description = "Bounds beyond which alarms are raised."
  type = object({
    queue_age_seconds    = optional(number, 300)
    dead_letters         = optional(number, 1)
    errors_in_5_minutes  = optional(number, 10)
    error_rate_percent   = optional(number, 5)
    latency_p99_seconds  = optional(number, 2)
    notices_dead_letters = optional(number, 1)
  })
  default = {}
}

# --- buckets of others

variable "attached" {
  description = "Buckets of others whose objects functions read, by the names that manifests give them: the `bucket` as S3 knows it, in this region, and the `prefix` of what is looked at. `notify` writes the bucket's notifications, all of them: where others depend on them it is `false`, and the queue is added to them. `kms_key_arn` is the key of its objects, where they have one."
  type = map(object({
    bucket      = string
    prefix      = optional(string, "")
    notify      = optional(bool, true)
    kms_key_arn = optional(string)
  }))
  default = {}
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
