variable "platform" {
  description = "The platform that the function is for: the output `store` of modules/platform, or an object of the same form for a table and a bucket of your own."
  type = object({
    table_name  = string
    table_arn   = string
    bucket_name = string
    bucket_arn  = string
    # What the names of the platform's queues begin with, as an ARN.
    queues_arn  = string
    kms_key_arn = optional(string)
    # The name of the CloudWatch log group that hosts write to, for alarms.
    log_group = optional(string)
    # SNS topics that alarms notify.
    topics = optional(list(string), [])
  })
}

variable "app" {
  description = "The app that the function belongs to."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{0,62}$", var.app))
    error_message = "`app` must have 1 to 63 lower-case letters, digits, `-` and `_`, and start with a letter."
  }
}

variable "tenant" {
  description = "Whose the app is; the app's own name by default. All functions of an app name the same."
  type        = string
  default     = null
}

variable "name" {
  description = "The function's name, unique on the platform."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{0,62}$", var.name))
    error_message = "`name` must have 1 to 63 lower-case letters, digits, `-` and `_`, and start with a letter."
  }
}

variable "component" {
  description = "The path of the function's component, a `.wasm` file."
  type        = string

  validation {
    condition     = endswith(var.component, ".wasm")
    error_message = "`component` must be the path of a `.wasm` file."
  }

  validation {
    condition     = fileexists(var.component)
    error_message = "There is no file `${var.component}`."
  }
}

variable "words" {
  description = "What the function's `[[function]]` would say in a `tidegate.toml`, without `name` and `component`: `trigger`, `grants`, `limits`, `retry`, `variables` and so on, as docs/manifest.md has them."
  # Not an object type: Terraform would drop keys that it does not know without a word.
  type    = any
  default = {}

  validation {
    condition = length(setsubtract(keys(var.words), [
      "batch", "description", "environment", "grants", "key", "limits", "rate", "record", "retry", "reuse", "trigger", "variables",
    ])) == 0
    error_message = "`words` has a key that no `[[function]]` has, or that is an input of its own (`name`, `component`); docs/manifest.md has all of them."
  }
}

variable "aliases" {
  description = "By alias, the share in hundredths of it that a version takes when it is declared; the rest stays with the version that had it. `{ live = 10 }` is a canary; without `live` it takes everything. `{ live = 0, candidate = 100 }` only gives the version a name."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for share in values(var.aliases) : share >= 0 && share <= 100 && floor(share) == share])
    error_message = "The share of an alias must be a whole number from 0 to 100."
  }
}

variable "wait" {
  description = "A host to ask: an apply then ends when the function is deployed, and fails with the host's reason where it is refused; a destroy ends when the function has drained. It runs `tidegate`, with the token in `TIDEGATE_API_TOKEN`. Without it both end when the declaration is written."
  type = object({
    host    = string
    ca      = optional(string)
    program = optional(string, "tidegate")
    timeout = optional(string, "5m")
  })
  default = null
}

variable "create_policy" {
  description = "Whether the function's least-privilege IAM policy is made; its document is an output in any case."
  type        = bool
  default     = true
}

variable "alarms" {
  description = "Bounds of what hosts log of the function in five minutes, beyond which `topics` of the platform are told; null raises no such alarm. Without a `log_group` of the platform there are none."
  type = object({
    dead_letters          = optional(number, 1)
    failures_in_5_minutes = optional(number)
  })
  default = {}
}

variable "tags" {
  description = "Tags of what the module makes."
  type        = map(string)
  default     = {}
}
