# Terraform makes the secrets and never sees a value. The owner's password is RDS's own (see database.tf). What has to be
# random is made by Secrets Manager itself, which Terraform reaches only through CloudFormation: a version that
# Terraform wrote would be written anew, over the password in use, once rotation had pushed it out. The vendors' keys
# are put in by the operator.

locals {
  database_name  = "fusewire"
  app_user       = "fusewire_app"
  token_user     = "fusewire_app_iam" # RDS takes no password from a role that it takes tokens from
  app_secret_arn = aws_cloudformation_stack.secrets.outputs["AppSecretArn"]
  rotation       = var.app_password_rotation_days > 0

  owner_secret_arn = (
    local.external ? aws_secretsmanager_secret.owner[0].arn :
    local.rds ? aws_db_instance.this[0].master_user_secret[0].secret_arn :
    var.aurora_global ? aws_cloudformation_stack.secrets.outputs["OwnerSecretArn"] :
    aws_rds_cluster.this[0].master_user_secret[0].secret_arn
  )

  owner_secret = {
    OwnerSecret = {
      Type = "AWS::SecretsManager::Secret"
      Properties = {
        Name        = "fusewire/${var.stage}/database-owner-${local.life}"
        Description = "The role that migrates, in a global database"
        KmsKeyId    = local.key_arn
        GenerateSecretString = {
          SecretStringTemplate = jsonencode({ username = "fusewire_owner" })
          GenerateStringKey    = "password"
          PasswordLength       = 40
          ExcludePunctuation   = true
        }
      }
    }
  }
}

resource "aws_cloudformation_stack" "secrets" {
  name = "${local.name}-secrets"

  template_body = jsonencode({
    AWSTemplateFormatVersion = "2010-09-09"
    Description              = "Values that only Secrets Manager knows, made by Terraform's modules/aws"
    Resources = merge({ for name, secret in local.owner_secret : name => secret if var.aurora_global }, {
      AppSecret = {
        Type = "AWS::SecretsManager::Secret"
        Properties = {
          Name        = "fusewire/${var.stage}/database-app-${local.life}"
          Description = "The role that the functions run as"
          KmsKeyId    = local.key_arn
          GenerateSecretString = {
            SecretStringTemplate = jsonencode({ username = local.app_user })
            GenerateStringKey    = "password"
            PasswordLength       = 40
            ExcludePunctuation   = true
          }
        }
      }
      AdminKey = {
        Type = "AWS::SecretsManager::Secret"
        Properties = {
          Name        = "fusewire/${var.stage}/admin-api-key-${local.life}"
          Description = "The bootstrap key with the admin scope"
          KmsKeyId    = local.key_arn
          GenerateSecretString = {
            SecretStringTemplate = "{}"
            GenerateStringKey    = "ADMIN_API_KEY"
            PasswordLength       = 48
            ExcludePunctuation   = true
          }
        }
      }
    })
    Outputs = merge({ for name in keys(local.owner_secret) : "${name}Arn" => { Value = { Ref = name } } if var.aurora_global }, {
      AppSecretArn = { Value = { Ref = "AppSecret" } }
      AdminKeyArn  = { Value = { Ref = "AdminKey" } }
    })
  })
}

resource "aws_secretsmanager_secret" "provider_keys" {
  name                    = "fusewire/${var.stage}/provider-keys-${local.life}"
  description             = "JSON of the vendors' settings by variable name, filled by the operator"
  kms_key_id              = local.key_arn
  recovery_window_in_days = 30
}

# For a database elsewhere: {"username", "password"} of a role that owns the database and may create roles.
resource "aws_secretsmanager_secret" "owner" {
  count = local.external ? 1 : 0

  name                    = "fusewire/${var.stage}/database-owner-${local.life}"
  description             = "The role that migrates the database elsewhere, filled by the operator"
  kms_key_id              = local.key_arn
  recovery_window_in_days = 30
}

# --- Rotation of the app role's password -----------------------------------------------------------------------------

# AWS's own rotation function: makes a password, sets it as the role itself, tries it, makes it current. The functions
# read the secret anew when a credential is rejected. Its first step logs in, so `migrate` has to have run before.
resource "aws_cloudformation_stack" "rotation" {
  count = local.rotation ? 1 : 0

  name         = "${local.name}-rotation"
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]

  template_body = jsonencode({
    AWSTemplateFormatVersion = "2010-09-09"
    Transform                = "AWS::SecretsManager-2024-09-16"
    Description              = "Rotation of the app role's password, made by Terraform's modules/aws"
    Resources = {
      # Adds host, port, engine and database to the secret's JSON, which the rotation function wants, and keeps the rest.
      Attachment = {
        Type = "AWS::SecretsManager::SecretTargetAttachment"
        Properties = {
          SecretId   = local.app_secret_arn
          TargetId   = local.aurora ? aws_rds_cluster.this[0].cluster_identifier : aws_db_instance.this[0].identifier
          TargetType = local.aurora ? "AWS::RDS::DBCluster" : "AWS::RDS::DBInstance"
        }
      }
      Schedule = {
        Type      = "AWS::SecretsManager::RotationSchedule"
        DependsOn = ["Attachment"]
        Properties = {
          SecretId                  = local.app_secret_arn
          RotateImmediatelyOnUpdate = false
          RotationRules             = { AutomaticallyAfterDays = var.app_password_rotation_days }
          HostedRotationLambda = {
            RotationType        = "PostgreSQLSingleUser"
            RotationLambdaName  = "${local.name}-app-password"
            KmsKeyArn           = local.key_arn
            VpcSecurityGroupIds = aws_security_group.rotation[0].id
            VpcSubnetIds        = join(",", aws_subnet.private[*].id)
          }
        }
      }
    }
  })

  # It needs a way to the database and to Secrets Manager as long as it lives.
  depends_on = [
    aws_route.private,
    aws_vpc_endpoint.interface,
    aws_vpc_security_group_egress_rule.https,
    aws_vpc_security_group_egress_rule.to_database,
    aws_vpc_security_group_egress_rule.to_endpoints,
    aws_vpc_security_group_ingress_rule.database,
    aws_vpc_security_group_ingress_rule.endpoints,
  ]
}
