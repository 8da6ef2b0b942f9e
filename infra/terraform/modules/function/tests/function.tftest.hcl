mock_provider "aws" {}

variables {
  platform = {
    table_name  = "tidegate"
    table_arn   = "arn:aws:dynamodb:eu-central-1:123456789012:table/tidegate"
    bucket_name = "acme-tidegate"
    bucket_arn  = "arn:aws:s3:::acme-tidegate"
    queues_arn  = "arn:aws:sqs:eu-central-1:123456789012:tidegate-"
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/one"
  }
  app       = "shop"
  name      = "step"
  component = "./tests/step.wasm"
  words = {
    trigger = [{ event = "Ordered" }, { schedule = { cron = "@daily" } }]
    grants = {
      objects  = { read = ["data/in/", "data/more/"], write = ["reports/out/"] }
      state    = { read = ["orders"], write = ["totals"] }
      features = { write = ["users"] }
    }
    limits = { memory = "128MiB", concurrency = 2 }
    retry  = null
  }
}

run "a_function_is_declared_by_the_digest_of_its_component" {
  command = plan

  assert {
    condition     = aws_s3_object.component.key == "components/shop/step/${filesha256("./tests/step.wasm")}.wasm"
    error_message = "The component does not lie under its digest."
  }
  assert {
    condition     = aws_s3_object.component.kms_key_id == "arn:aws:kms:eu-central-1:123456789012:key/one"
    error_message = "The component is not encrypted with the platform's key."
  }
  assert {
    condition = jsondecode(jsondecode(aws_dynamodb_table_item.declared.item).words.S) == {
      component = "step.wasm"
      trigger   = [{ event = "Ordered" }, { schedule = { cron = "@daily" } }]
      grants = {
        objects  = { read = ["data/in/", "data/more/"], write = ["reports/out/"] }
        state    = { read = ["orders"], write = ["totals"] }
        features = { write = ["users"] }
      }
      limits = { memory = "128MiB", concurrency = 2 }
    }
    error_message = "The words are not as they were given."
  }
  assert {
    condition     = jsondecode(aws_dynamodb_table_item.declared.item).sk.S == "shop/step"
    error_message = "The declaration does not have the function's name."
  }
  assert {
    condition     = length(terraform_data.deployed) == 0 && length(terraform_data.drained) == 0
    error_message = "Something is waited for, and nobody asked for it."
  }
}

run "its_policy_names_what_its_grants_name_and_nothing_else" {
  command = plan

  assert {
    condition = one([
      for statement in jsondecode(output.policy).Statement : statement.Condition["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
      if statement.Sid == "Reads"
    ]) == ["t#orders", "o#data"]
    error_message = "Reads: ${output.policy}"
  }
  assert {
    condition = one([
      for statement in jsondecode(output.policy).Statement : statement.Condition["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
      if statement.Sid == "Writes"
    ]) == ["t#totals", "t#$features/users", "o#reports"]
    error_message = "Writes: ${output.policy}"
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(output.policy).Statement : !contains(flatten([statement.Resource]), "*") && !contains(flatten([statement.Action]), "*")
    ])
    error_message = "Something is allowed everywhere: ${output.policy}"
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(output.policy).Statement : statement.Condition["Null"] == { "dynamodb:LeadingKeys" = "false" }
      if can(statement.Condition)
    ])
    error_message = "What names no keys is let in: ${output.policy}"
  }
  assert {
    condition     = aws_iam_policy.function[0].name == "tidegate-shop-step"
    error_message = "The policy is not called by the platform's table, the app and the function."
  }
}

run "a_policy_beyond_what_iam_takes_is_refused" {
  command = plan

  variables {
    words = { grants = { state = { read = [for number in range(300) : "a-table-of-some-length-${number}"] } } }
  }

  expect_failures = [aws_iam_policy.function]
}

run "names_beyond_what_iam_takes_are_refused" {
  command = plan

  variables {
    app  = "an-app-with-a-name-of-sixty-three-letters-as-many-as-there-may"
    name = "a-function-with-a-name-that-is-also-of-very-nearly-sixty-lettrs"
  }

  expect_failures = [aws_iam_policy.function]
}

run "a_function_without_grants_has_neither_reads_nor_writes" {
  command = plan

  variables {
    words         = {}
    create_policy = false
  }

  assert {
    condition     = length([for statement in jsondecode(output.policy).Statement : statement if contains(["Reads", "Writes"], statement.Sid)]) == 0
    error_message = "Something is granted: ${output.policy}"
  }
  assert {
    condition     = length(aws_iam_policy.function) == 0
    error_message = "A policy is made, and nobody asked for it."
  }
}

run "what_hosts_log_of_the_function_raises_its_own_alarms" {
  command = plan

  variables {
    platform = {
      table_name  = "tidegate"
      table_arn   = "arn:aws:dynamodb:eu-central-1:123456789012:table/tidegate"
      bucket_name = "acme-tidegate"
      bucket_arn  = "arn:aws:s3:::acme-tidegate"
      queues_arn  = "arn:aws:sqs:eu-central-1:123456789012:tidegate-"
      log_group   = "/tidegate/tidegate"
      topics      = ["arn:aws:sns:eu-central-1:123456789012:tidegate-alarms"]
    }
    alarms = { failures_in_5_minutes = 20 }
  }

  assert {
    condition     = join(" ", keys(aws_cloudwatch_metric_alarm.lines)) == "dead-letters failures"
    error_message = "An alarm is missing."
  }
  assert {
    condition     = alltrue([for filter in aws_cloudwatch_log_metric_filter.lines : strcontains(filter.pattern, "$.function = \"step\"")])
    error_message = "Lines of other functions are counted."
  }
  assert {
    condition     = alltrue([for name, alarm in aws_cloudwatch_metric_alarm.lines : alarm.namespace == "Tidegate/tidegate" && alarm.alarm_name == "tidegate-shop-step-${name}"])
    error_message = "Another platform's function of this name would have the same alarms."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.lines : contains(alarm.alarm_actions, "arn:aws:sns:eu-central-1:123456789012:tidegate-alarms")])
    error_message = "An alarm tells nobody."
  }
}

run "without_a_log_group_there_are_no_alarms" {
  command = plan

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.lines) == 0
    error_message = "An alarm looks at lines that nobody writes."
  }
}

run "a_host_is_waited_for_where_there_is_one" {
  command = plan

  variables {
    wait    = { host = "https://tide.example.com" }
    aliases = { live = 10 }
  }

  assert {
    condition     = terraform_data.drained[0].input.TIDEGATE_HOST_URL == "https://tide.example.com"
    error_message = "The host is not asked when the function is destroyed."
  }
  assert {
    condition     = jsondecode(jsondecode(aws_dynamodb_table_item.declared.item).aliases.S) == { live = 10 }
    error_message = "The share is not declared."
  }
}

run "a_word_that_no_function_has_is_refused" {
  command = plan

  variables {
    words = { triger = [] }
  }

  expect_failures = [var.words]
}

run "a_share_beyond_a_hundred_is_refused" {
  command = plan

  variables {
    aliases = { live = 101 }
  }

  expect_failures = [var.aliases]
}

run "a_component_that_is_not_there_is_refused" {
  command = plan

  variables {
    component = "./tests/nowhere.wasm"
  }

  expect_failures = [var.component]
}
