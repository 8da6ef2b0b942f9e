# One function of its own on a platform that is there already.

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

variable "platform" {
  description = "The output `store` of modules/platform."
  type        = any
}

variable "component" {
  description = "The path of `hello.wasm`, which `cargo xtask functions` builds."
  type        = string
}

module "hello" {
  source = "../../modules/function"

  platform  = var.platform
  app       = "hello"
  name      = "hello"
  component = var.component

  words = {
    description = "Counts the words of a text and remembers the count."
    trigger     = [{ object = { bucket = "data", prefix = "hello/", suffix = ".txt" } }]
    grants = {
      objects = { read = ["data/hello/"] }
      state   = { write = ["hello"] }
      events  = { emit = ["TextCounted"] }
    }
    variables = { greeting = "Hello" }
  }
}

output "policy" {
  description = "What the function may touch."
  value       = module.hello.policy
}
