locals {
  functions = { for function in var.manifest.function : function.name => function }
  strangers = setsubtract(setunion(keys(var.aliases), setsubtract(keys(var.alarms), ["*"])), keys(local.functions))
}

module "function" {
  source   = "../function"
  for_each = local.functions

  platform      = var.platform
  app           = var.manifest.app.name
  tenant        = try(var.manifest.app.tenant, null)
  name          = each.key
  component     = "${var.components}/${each.value.component}"
  words         = { for key, value in each.value : key => value if !contains(["name", "component"], key) }
  aliases       = try(var.aliases[each.key], {})
  wait          = var.wait
  alarms        = try(var.alarms[each.key], var.alarms["*"], {})
  create_policy = var.create_policies
  tags          = var.tags
}
