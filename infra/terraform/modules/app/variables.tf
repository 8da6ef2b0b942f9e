variable "platform" {
  description = "The platform that the app is for: the output `store` of modules/platform, or an object of the same form."
  type        = any
}

variable "manifest" {
  description = "The app, with the keys of a `tidegate.toml`: `app` with `name` and perhaps `tenant`, and `function`, a list. `tidegate export terraform` writes it from a `tidegate.toml` or from a running host."
  # Not an object type: Terraform would drop keys that it does not know without a word.
  type = any

  validation {
    condition     = length(setsubtract(keys(var.manifest), ["app", "function"])) == 0 && can(var.manifest.app.name) && can(var.manifest.function)
    error_message = "`manifest` must have `app`, with a `name`, and `function`, and nothing else."
  }

  validation {
    condition     = length(setsubtract(keys(var.manifest.app), ["name", "tenant"])) == 0
    error_message = "`manifest.app` has a key besides `name` and `tenant`."
  }

  validation {
    condition     = alltrue([for function in var.manifest.function : can(function.name) && can(function.component)])
    error_message = "Every `function` must have a `name` and a `component`."
  }

  validation {
    condition     = try(length(distinct(var.manifest.function[*].name)) == length(var.manifest.function), true)
    error_message = "Two of `function` have the same `name`; they are ${try(join(", ", var.manifest.function[*].name), "")}."
  }
}

variable "components" {
  description = "The folder that the functions' components lie in; their paths are relative to it."
  type        = string
}

variable "aliases" {
  description = "By function, the shares of aliases as modules/function has them: `{ rank = { live = 10 } }`."
  type        = map(map(number))
  default     = {}
}

variable "wait" {
  description = "A host to ask until everything is deployed or has drained, as modules/function has it."
  type        = any
  default     = null
}

variable "alarms" {
  description = "By function, the bounds of its alarms as modules/function has them; `*` is for functions that are not named: `{ \"*\" = { failures_in_5_minutes = 20 } }`."
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

variable "tags" {
  description = "Tags of what the module makes."
  type        = map(string)
  default     = {}
}
