output "functions" {
  description = "By function: the digest and the key of its component, and the ARN of its IAM policy."
  value = {
    for name, function in module.function : name => {
      digest     = function.digest
      component  = function.component
      policy_arn = function.policy_arn
    }
  }

  precondition {
    condition     = length(local.strangers) == 0
    error_message = "`aliases` or `alarms` name functions that the manifest does not have: ${join(", ", local.strangers)}."
  }
}
