output "autoscaling_group" {
  description = "The name of the autoscaling group."
  value       = aws_autoscaling_group.worker.name
}

output "role_arn" {
  description = "The role of the instances."
  value       = aws_iam_role.worker.arn
}

output "security_group" {
  description = "The security group of the instances."
  value       = aws_security_group.worker.id
}
