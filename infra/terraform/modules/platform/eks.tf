# Hosts on EKS: the chart of infra/kubernetes runs them; here are the role of their service account, and the chart's values
# and secret.

locals {
  eks = var.hosts == "eks" ? 1 : 0
  # What names begin with in the chart, the service account's among them.
  service_account = try(strcontains(var.eks.release, "tidegate") ? var.eks.release : "${var.eks.release}-tidegate", "")
  oidc_provider = (
    local.eks == 0 || var.eks == null ? [] :
    var.eks.oidc_provider == null ? aws_iam_openid_connect_provider.cluster[*].arn :
    [var.eks.oidc_provider.arn]
  )
  made_provider = local.eks == 1 && try(var.eks.oidc_provider == null, false) ? 1 : 0
}

data "aws_eks_cluster" "this" {
  count = local.made_provider
  name  = var.eks.cluster
}

# By it the cluster's service accounts are known to IAM. A cluster has one at most.
resource "aws_iam_openid_connect_provider" "cluster" {
  count          = local.made_provider
  url            = one(one(data.aws_eks_cluster.this[0].identity).oidc).issuer
  client_id_list = ["sts.amazonaws.com"]
  tags           = var.tags
}

# KEDA's operator asks CloudWatch, which knows no narrower right.
data "aws_iam_policy_document" "keda" {
  statement {
    sid       = "QueueAge"
    actions   = ["cloudwatch:GetMetricData"]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "keda" {
  count  = local.eks == 1 && try(var.eks.keda != null, false) ? 1 : 0
  name   = "${var.name}-queue-age"
  role   = var.eks.keda.role
  policy = data.aws_iam_policy_document.keda.json
}

locals {
  chart_bounds = { enabled = true, minReplicas = max(var.count_of_hosts.min, 1), maxReplicas = var.count_of_hosts.max }
  # The chart lets hosts reach the world by HTTPS, but no private address; endpoints in the VPC have such.
  chart_aws = concat(
    [{ ipBlock = { cidr = "0.0.0.0/0", except = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"] } }],
    [for range in local.vpc_cidrs : { ipBlock = { cidr = range } }],
  )
  chart_values = merge(local.endpoints ? { networkPolicy = { awsTo = local.chart_aws } } : {}, {
    secretName = local.service_account
    store = {
      kind = "aws"
      aws = {
        bucket = aws_s3_bucket.this.bucket
        region = local.region
        table  = aws_dynamodb_table.this.name
        queues = local.queues
      }
    }
    serviceAccount = {
      annotations = { "eks.amazonaws.com/role-arn" = one(aws_iam_role.host[*].arn) }
    }
    host = {
      config = merge(
        { gateway = { hosts = compact([var.domain]) } },
        length(local.attached) == 0 ? {} : { attached = local.attached },
      )
    }
    autoscaling = {
      for kind, values in {
        hpa = local.chart_bounds
        keda = merge(local.chart_bounds, {
          cloudwatch  = { expression = local.queue_age }
          waitSeconds = var.count_of_hosts.queue_age_seconds
        })
      } : kind => values if kind == (try(var.eks.keda, null) == null ? "hpa" : "keda")
    }
  })

  chart_secret = {
    apiVersion = "v1"
    kind       = "Secret"
    metadata   = { name = local.service_account, namespace = try(var.eks.namespace, null) }
    stringData = {
      api-token     = var.api_token
      worker-token  = var.worker_token
      s3-access-key = try(var.s3_keys.access_key, null)
      s3-secret-key = try(var.s3_keys.secret_key, null)
    }
  }
}
