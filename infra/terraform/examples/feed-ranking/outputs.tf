output "functions" {
  description = "By function: the digest and the key of its component, and the ARN of its IAM policy."
  value       = module.app.functions
}

output "url" {
  description = "Where the hosts of the platform that was made here answer."
  value       = one(module.platform[*].url)
}
