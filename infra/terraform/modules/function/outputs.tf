output "digest" {
  description = "The SHA-256 of the component."
  value       = local.digest
}

output "component" {
  description = "The key of the component in the platform's bucket."
  value       = aws_s3_object.component.key
}

output "policy" {
  description = "The document of the least-privilege IAM policy."
  value       = local.policy
}

output "policy_arn" {
  description = "The policy's ARN, where it is made."
  value       = one(aws_iam_policy.function[*].arn)
}
