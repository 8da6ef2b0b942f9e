variable "components" {
  description = "The folder with the app's components, which `cargo xtask functions` builds."
  type        = string
}

variable "platform" {
  description = "A platform that is there already: the output `store` of modules/platform. Without it one is made."
  type = object({
    table_name  = string
    table_arn   = string
    bucket_name = string
    bucket_arn  = string
    queues_arn  = string
    kms_key_arn = optional(string)
    log_group   = optional(string)
    topics      = optional(list(string), [])
  })
  default = null
}

variable "variables" {
  description = "By function, variables that differ from the app's own, for example `{ train = { max_epochs = \"40\" } }`."
  type        = map(map(string))
  default     = {}
}

variable "aliases" {
  description = "By function, the shares of aliases: `{ rank = { live = 10 } }` lets one request in ten try a changed `rank`."
  type        = map(map(number))
  default     = {}
}

variable "wait" {
  description = "A host to ask until everything is deployed or has drained: its address, and perhaps its certificate."
  type = object({
    host    = string
    ca      = optional(string)
    program = optional(string, "tidegate")
    timeout = optional(string, "5m")
  })
  default = null
}

variable "alarms" {
  description = "By function, the bounds of its alarms, as modules/app has them."
  type = map(object({
    dead_letters          = optional(number, 1)
    failures_in_5_minutes = optional(number)
  }))
  default = {}
}

variable "create_policies" {
  description = "Whether an IAM policy is made for each function."
  type        = bool
  default     = true
}

# --- for a platform of its own

variable "name" {
  description = "The platform's name."
  type        = string
  default     = "feed-ranking"
}

variable "image" {
  description = "The container image of the host."
  type        = string
  default     = null
}

variable "worker_image" {
  description = "The container image of the worker beside each host, without which nothing trains and nothing predicts."
  type        = string
  default     = null
}

variable "gpu_image" {
  description = "The container image of workers with GPUs, which train then, from none to four as jobs wait; without it the workers beside the hosts train."
  type        = string
  default     = null
}

variable "api_token" {
  description = "What operators send to `/api/v1`."
  type        = string
  default     = null
  sensitive   = true
}

variable "worker_token" {
  description = "What workers prove themselves with."
  type        = string
  default     = null
  sensitive   = true
}

variable "s3_keys" {
  description = "The keys of Tidegate's S3 endpoint, by which files are dropped: `https://DOMAIN:9000`."
  type        = object({ access_key = string, secret_key = string })
  default     = null
  sensitive   = true
}

variable "domain" {
  description = "The name that the app is called by."
  type        = string
  default     = null
}

variable "certificate_arn" {
  description = "The certificate of that name."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "The VPC of the hosts."
  type        = string
  default     = null
}

variable "private_subnets" {
  description = "Subnets of the hosts."
  type        = list(string)
  default     = []
}

variable "public_subnets" {
  description = "Subnets of the load balancer."
  type        = list(string)
  default     = []
}

variable "route_tables" {
  description = "Route tables of the private subnets."
  type        = list(string)
  default     = []
}

variable "alarm_emails" {
  description = "Who is told of alarms."
  type        = list(string)
  default     = []
}
