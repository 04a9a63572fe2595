# The key of everything at rest here: storage, snapshots, backups, secrets. CloudFormation makes it because it can leave it
# behind: a key that Terraform destroyed would be gone after 30 days, and with it what the final snapshot and the backups
# hold. Its policy leaves the say to the account's IAM policies.

resource "aws_cloudformation_stack" "key" {
  name          = "${local.name}-key"
  template_body = local.key_template
}

resource "aws_cloudformation_stack" "second_key" {
  provider = aws.second
  count    = var.second_region != null ? 1 : 0

  name          = "${local.name}-key"
  template_body = local.key_template
}

resource "aws_kms_alias" "this" {
  name          = "alias/${local.name}"
  target_key_id = aws_cloudformation_stack.key.outputs["KeyId"]
}

locals {
  key_arn = aws_cloudformation_stack.key.outputs["KeyArn"]

  key_template = jsonencode({
    AWSTemplateFormatVersion = "2010-09-09"
    Description              = "The key that outlives the stage, made by Terraform's modules/aws"
    Resources                = { Key = merge(local.kept, { Type = "AWS::KMS::Key", Properties = local.key }) }
    Outputs = {
      KeyArn = { Value = { "Fn::GetAtt" = ["Key", "Arn"] } }
      KeyId  = { Value = { Ref = "Key" } }
    }
  })

  # What a deletion of its CloudFormation stack leaves.
  kept = { DeletionPolicy = "Retain", UpdateReplacePolicy = "Retain" }

  key = {
    Description       = "fusewire ${var.stage}: database, snapshots, backups and secrets"
    EnableKeyRotation = true
    KeyPolicy = {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Principal = { AWS = { "Fn::Sub" = "arn:$${AWS::Partition}:iam::$${AWS::AccountId}:root" } }
        Action    = "kms:*"
        Resource  = "*"
      }]
    }
  }
}
