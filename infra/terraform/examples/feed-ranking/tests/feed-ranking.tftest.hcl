mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_ssm_parameter" {
    defaults = { insecure_value = "ami-1" }
  }
}

variables {
  components = "./tests/components"
}

run "the_app_on_a_platform_of_its_own_can_be_planned_from_nothing" {
  command = plan

  variables {
    image           = "registry.example.com/tidegate-host:1"
    worker_image    = "registry.example.com/tidegate-worker:1"
    gpu_image       = "registry.example.com/tidegate-worker-cuda:1"
    domain          = "feed.example.com"
    certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/one"
    vpc_id          = "vpc-1"
    private_subnets = ["subnet-1", "subnet-2"]
    public_subnets  = ["subnet-3", "subnet-4"]
    route_tables    = ["rtb-1"]
    api_token       = "one"
    worker_token    = "two"
    s3_keys         = { access_key = "three", secret_key = "four" }
  }

  assert {
    condition     = output.url == "https://feed.example.com" && length(module.gpus) == 1 && local.worker.only == "inference"
    error_message = "The app has another address, or those who train are others."
  }
  assert {
    condition     = length(local.manifest.function) == 7
    error_message = "Functions are missing."
  }
}

run "the_app_on_a_platform_that_is_there_makes_nothing_else" {
  command = plan

  variables {
    platform = {
      table_name  = "tidegate"
      table_arn   = "arn:aws:dynamodb:eu-central-1:123456789012:table/tidegate"
      bucket_name = "acme-tidegate"
      bucket_arn  = "arn:aws:s3:::acme-tidegate"
      queues_arn  = "arn:aws:sqs:eu-central-1:123456789012:tidegate-"
    }
    variables = { train = { max_epochs = "40" } }
  }

  assert {
    condition     = length(module.platform) + length(module.gpus) == 0 && length(output.functions) == 7
    error_message = "There is a platform besides the one that is given, or functions are missing."
  }
  assert {
    condition = one([for function in local.manifest.function : function.variables if function.name == "train"]) == {
      embedding_dim = "128", towers = "256,128", learning_rate = "0.001", batch_size = "1024", max_epochs = "40", patience = "2", seed = "42"
    }
    error_message = "A variable that is set here does not go beside the app's own."
  }
}
