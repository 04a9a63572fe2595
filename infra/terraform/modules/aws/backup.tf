# Copies of the database that AWS Backup keeps beside RDS's own: in vaults, which can be locked, and in a second region.
# CloudFormation makes vaults and keys because it can leave them behind: a vault can't be deleted while it holds anything.

locals {
  vaulted = var.backup_vault_days > 0
  copied  = local.vaulted && var.second_region != null

  # A lock in governance can be taken off by whoever may; one in compliance by nobody, AWS included, from the third day
  # on: https://docs.aws.amazon.com/aws-backup/latest/devguide/vault-lock.html
  lock = {
    off        = {}
    governance = { LockConfiguration = { MinRetentionDays = var.backup_vault_days } }
    compliance = { LockConfiguration = { MinRetentionDays = var.backup_vault_days, ChangeableForDays = 3 } }
  }[var.backup_lock]

  vault_name    = "${local.name}-${local.life}"
  vault_outputs = { VaultArn = { Value = { "Fn::GetAtt" = ["Vault", "BackupVaultArn"] } } }
}

resource "aws_cloudformation_stack" "vault" {
  count = local.vaulted ? 1 : 0

  name = "${local.name}-vault"

  template_body = jsonencode({
    AWSTemplateFormatVersion = "2010-09-09"
    Description              = "The backups' vault, which outlives the stage, made by Terraform's modules/aws"
    Resources = {
      Vault = merge(local.kept, {
        Type       = "AWS::Backup::BackupVault"
        Properties = merge(local.lock, { BackupVaultName = local.vault_name, EncryptionKeyArn = local.key_arn })
      })
    }
    Outputs = local.vault_outputs
  })
}

resource "aws_cloudformation_stack" "second_vault" {
  provider = aws.second
  count    = local.copied ? 1 : 0

  name = "${local.name}-vault"

  template_body = jsonencode({
    AWSTemplateFormatVersion = "2010-09-09"
    Description              = "The backups' vault in the second region, made by Terraform's modules/aws"
    Resources = {
      Vault = merge(local.kept, {
        Type = "AWS::Backup::BackupVault"
        Properties = merge(local.lock, {
          BackupVaultName  = local.vault_name
          EncryptionKeyArn = aws_cloudformation_stack.second_key[0].outputs["KeyArn"]
        })
      })
    }
    Outputs = local.vault_outputs
  })
}

resource "aws_backup_plan" "this" {
  count = local.vaulted ? 1 : 0

  name = local.name

  rule {
    rule_name         = "daily"
    target_vault_name = element(split(":", aws_cloudformation_stack.vault[0].outputs["VaultArn"]), 6)
    schedule          = "cron(0 7 * * ? *)" # UTC, clear of RDS's own two windows
    start_window      = 60                  # minutes
    completion_window = 360

    lifecycle {
      delete_after = var.backup_vault_days
    }

    dynamic "copy_action" {
      for_each = aws_cloudformation_stack.second_vault

      content {
        destination_vault_arn = copy_action.value.outputs["VaultArn"]

        lifecycle {
          delete_after = var.backup_vault_days
        }
      }
    }
  }
}

resource "aws_iam_role" "backup" {
  count = local.vaulted ? 1 : 0

  name_prefix = "${local.name}-backup-"
  description = "AWS Backup takes and copies the snapshots"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "backup.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "backup" {
  count = local.vaulted ? 1 : 0

  role       = aws_iam_role.backup[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
}

resource "aws_backup_selection" "this" {
  count = local.vaulted ? 1 : 0

  name         = local.name
  plan_id      = aws_backup_plan.this[0].id
  iam_role_arn = aws_iam_role.backup[0].arn
  resources    = [local.database_arn]

  depends_on = [aws_iam_role_policy_attachment.backup]
}
