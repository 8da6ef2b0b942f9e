mock_provider "aws" {}

variables {
  platform = {
    table_name  = "tidegate"
    table_arn   = "arn:aws:dynamodb:eu-central-1:123456789012:table/tidegate"
    bucket_name = "acme-tidegate"
    bucket_arn  = "arn:aws:s3:::acme-tidegate"
    queues_arn  = "arn:aws:sqs:eu-central-1:123456789012:tidegate-"
  }
  component = "./tests/hello.wasm"
}

run "the_function_may_touch_what_it_is_granted" {
  command = plan

  assert {
    condition = one([
      for statement in jsondecode(output.policy).Statement : statement.Condition["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
      if statement.Sid == "Writes"
    ]) == ["t#hello"]
    error_message = output.policy
  }
}
