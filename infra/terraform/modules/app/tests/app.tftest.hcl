mock_provider "aws" {}

variables {
  platform = {
    table_name  = "tidegate"
    table_arn   = "arn:aws:dynamodb:eu-central-1:123456789012:table/tidegate"
    bucket_name = "acme-tidegate"
    bucket_arn  = "arn:aws:s3:::acme-tidegate"
    queues_arn  = "arn:aws:sqs:eu-central-1:123456789012:tidegate-"
  }
  components = "./tests"
  manifest = {
    app = { name = "shop", tenant = "acme" }
    function = [
      { name = "step", component = "step.wasm", trigger = [{ event = "Ordered" }], limits = { memory = "128MiB" } },
      { name = "page", component = "step.wasm", trigger = [{ http = { route = "/" } }], variables = { a = "1" } },
    ]
  }
}

run "every_function_of_the_manifest_is_declared_by_itself" {
  command = plan

  assert {
    condition     = join(" ", keys(output.functions)) == "page step"
    error_message = "The functions are ${join(", ", keys(output.functions))}."
  }
  assert {
    condition     = alltrue([for function in output.functions : function.digest == filesha256("./tests/step.wasm")])
    error_message = "A digest is not that of the component."
  }
}

run "a_manifest_with_something_else_in_it_is_refused" {
  command = plan

  variables {
    manifest = { app = { name = "shop" }, function = [], functions = [] }
  }

  expect_failures = [var.manifest]
}

run "a_function_without_a_component_is_refused" {
  command = plan

  variables {
    manifest = { app = { name = "shop" }, function = [{ name = "step" }] }
  }

  expect_failures = [var.manifest]
}

run "aliases_of_a_function_that_is_not_there_are_refused" {
  command = plan

  variables {
    aliases = { nobody = { live = 10 } }
  }

  expect_failures = [output.functions]
}

run "two_functions_of_one_name_are_refused" {
  command = plan

  variables {
    manifest = {
      app      = { name = "shop" }
      function = [{ name = "step", component = "step.wasm" }, { name = "step", component = "step.wasm" }]
    }
  }

  expect_failures = [var.manifest]
}

run "alarms_of_a_function_that_is_not_there_are_refused" {
  command = plan

  variables {
    alarms = { nobody = {}, "*" = { dead_letters = 5 } }
  }

  expect_failures = [output.functions]
}
