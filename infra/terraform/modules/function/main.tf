locals {
  digest = filesha256(var.component)
  object = "components/${var.app}/${var.name}/${local.digest}.wasm"
  words  = merge({ for key, value in var.words : key => value if value != null }, { component = basename(var.component) })

  declaration = merge(
    {
      pk        = { S = "declared" }
      sk        = { S = "${var.app}/${var.name}" }
      words     = { S = jsonencode(local.words) }
      aliases   = { S = jsonencode(var.aliases) }
      component = { S = aws_s3_object.component.key }
      digest    = { S = local.digest }
    },
    var.tenant == null ? {} : { tenant = { S = var.tenant } },
  )
}

# The component lies under its digest, and a new one is there before it is declared. The old one may go before that: hosts
# keep what they have deployed. It must not go after: what goes back to an earlier component would lose it again.
resource "aws_s3_object" "component" {
  bucket       = var.platform.bucket_name
  key          = local.object
  source       = var.component
  source_hash  = local.digest
  content_type = "application/wasm"
  kms_key_id   = var.platform.kms_key_arn
  tags         = var.tags
}

# What hosts read. One of them deploys it within seconds, and the others follow.
resource "aws_dynamodb_table_item" "declared" {
  table_name = var.platform.table_name
  hash_key   = "pk"
  range_key  = "sk"
  item       = jsonencode(local.declaration)

  depends_on = [terraform_data.drained]
}

# It depends on the declaration, so that it is made after it: an apply ends when the function is deployed.
resource "terraform_data" "deployed" {
  count            = var.wait == null ? 0 : 1
  triggers_replace = [aws_dynamodb_table_item.declared.item]

  provisioner "local-exec" {
    command = "\"$PROGRAM\" declared \"$NAME\" --wait --timeout \"$TIMEOUT\""
    environment = merge({
      PROGRAM           = var.wait.program
      NAME              = "${var.app}/${var.name}"
      TIMEOUT           = var.wait.timeout
      TIDEGATE_HOST_URL = var.wait.host
    }, var.wait.ca == null ? {} : { TIDEGATE_CA = var.wait.ca })
  }
}

# The declaration depends on it, so that it is destroyed after it: a destroy ends when the function has drained.
resource "terraform_data" "drained" {
  count = var.wait == null ? 0 : 1
  input = merge({
    PROGRAM           = var.wait.program
    NAME              = "${var.app}/${var.name}"
    TIMEOUT           = var.wait.timeout
    TIDEGATE_HOST_URL = var.wait.host
  }, var.wait.ca == null ? {} : { TIDEGATE_CA = var.wait.ca })

  provisioner "local-exec" {
    when        = destroy
    command     = "\"$PROGRAM\" declared \"$NAME\" --wait --timeout \"$TIMEOUT\""
    environment = self.input
  }
}
