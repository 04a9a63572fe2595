# The roles of the workflows in .github/workflows, which sign in with GitHub's own tokens and no stored key. Whoever may
# deploy can make a role that may do anything, so the one that deploys is for the stage's environment alone, whose
# reviewers approve each run; the one that plans reads, for every pull request of the repository's own branches.

locals {
  pipeline     = var.github_repository != null
  github       = "token.actions.githubusercontent.com"
  provider_arn = !local.pipeline ? null : var.github_provider_arn != null ? var.github_provider_arn : aws_iam_openid_connect_provider.github[0].arn

  workflows = !local.pipeline ? {} : {
    plan   = "repo:${var.github_repository}:pull_request"
    deploy = "repo:${var.github_repository}:environment:${var.stage}"
  }

  partition = split(":", aws_vpc.this.arn)[1]
  account   = split(":", aws_vpc.this.arn)[4]
}

resource "aws_iam_openid_connect_provider" "github" {
  count = local.pipeline && var.github_provider_arn == null ? 1 : 0

  url            = "https://${local.github}"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "workflow" {
  for_each = local.workflows

  name                 = "${local.name}-github-${each.key}"
  description          = "GitHub's workflow that runs make ${each.key}"
  max_session_duration = 7200 # a first deployment with a standby takes more than an hour

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = local.provider_arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "${local.github}:aud" = "sts.amazonaws.com"
          "${local.github}:sub" = each.value
        }
      }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "workflow" {
  for_each = {
    for name in keys(local.workflows) : name => name == "plan" ? "ReadOnlyAccess" : "PowerUserAccess"
  }

  role       = aws_iam_role.workflow[each.key].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value}"
}

# What PowerUserAccess leaves out: the roles and policies that this stage's stacks and this module make. Not its own.
resource "aws_iam_role_policy" "workflow" {
  count = local.pipeline ? 1 : 0

  name = "roles-of-the-stage"
  role = aws_iam_role.workflow["deploy"].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["iam:Get*", "iam:List*"]
        Resource = "*"
      },
      {
        Effect = "Allow"
        Action = [
          "iam:AttachRolePolicy", "iam:CreatePolicy", "iam:CreatePolicyVersion", "iam:CreateRole", "iam:DeletePolicy",
          "iam:DeletePolicyVersion", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy", "iam:PassRole",
          "iam:PutRolePolicy", "iam:TagPolicy", "iam:TagRole", "iam:UntagPolicy", "iam:UntagRole",
          "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription",
        ]
        Resource = [for kind in ["role", "policy"] : "arn:${local.partition}:iam::${local.account}:${kind}/${local.name}-*"]
      },
      {
        Effect    = "Deny"
        NotAction = ["iam:Get*", "iam:List*"]
        Resource  = "arn:${local.partition}:iam::${local.account}:role/${local.name}-github-*"
      },
      {
        Effect   = "Allow"
        Action   = "iam:CreateServiceLinkedRole"
        Resource = "arn:${local.partition}:iam::${local.account}:role/aws-service-role/*"
      },
    ]
  })
}

output "workflow_roles" {
  description = "The roles for the variables PLAN_ROLE and DEPLOY_ROLE of the repository; empty without github_repository."
  value       = { for name, role in aws_iam_role.workflow : name => role.arn }
}
