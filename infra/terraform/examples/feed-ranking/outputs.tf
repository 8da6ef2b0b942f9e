output "functions" {
  description = "By function: the digest and the key of its component, and the ARN of its IAM policy."
  value       = module.app.functions
}

output "balancer" {
  description = "What an alias record of the domain points to."
  value       = one(module.platform[*].balancer)
}

output "url" {
  description = "Where the hosts of the platform that was made here answer."
  value       = one(module.platform[*].url)
}
