# modules/aws, with a provider that makes nothing: what would be made, what the SSM parameters tell the
# template, and what is refused. One file, for Terraform loads the provider anew for each.

mock_provider "aws" {
  source = "./tests/mocks"
}

mock_provider "aws" {
  alias  = "second"
  source = "./tests/mocks"
}

variables {
  stage  = "test"
  region = "eu-central-1"

  aurora_owner_password = "not-one-that-anybody-uses" # Terraform's tests apply no ephemeral variable's default
}

run "recommended" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  assert {
    condition     = aws_db_instance.this[0].multi_az && aws_db_instance.this[0].storage_encrypted && !aws_db_instance.this[0].publicly_accessible
    error_message = "The database has a standby, is encrypted and has no public address."
  }

  assert {
    condition     = aws_db_instance.this[0].manage_master_user_password && aws_db_instance.this[0].password == null
    error_message = "The owner's password is made and rotated by RDS."
  }

  assert {
    condition     = aws_db_instance.this[0].backup_retention_period == 30 && !aws_db_instance.this[0].delete_automated_backups
    error_message = "Thirty days of snapshots and point-in-time recovery, which outlive the instance."
  }

  assert {
    condition     = aws_db_instance.this[0].deletion_protection && !aws_db_instance.this[0].skip_final_snapshot && startswith(aws_db_instance.this[0].final_snapshot_identifier, "fusewire-test-final-")
    error_message = "The database isn't deleted by mistake, and leaves a snapshot when it is deleted on purpose."
  }

  assert {
    condition     = aws_db_instance.this[0].max_allocated_storage > aws_db_instance.this[0].allocated_storage
    error_message = "Storage grows by itself."
  }

  assert {
    condition     = aws_db_instance.this[0].performance_insights_enabled && toset(aws_db_instance.this[0].enabled_cloudwatch_logs_exports) == toset(["postgresql", "upgrade"])
    error_message = "Performance Insights is on, and Postgres's logs are exported."
  }

  assert {
    condition     = anytrue([for parameter in aws_db_parameter_group.this[0].parameter : parameter.name == "rds.force_ssl" && parameter.value == "1"])
    error_message = "Postgres refuses connections without TLS."
  }

  assert {
    condition     = aws_db_instance.this[0].kms_key_id == output.parameters.kms_key_arn && aws_secretsmanager_secret.provider_keys.kms_key_id == output.parameters.kms_key_arn
    error_message = "One key is over the storage and the secrets."
  }

  assert {
    condition     = jsondecode(aws_cloudformation_stack.key.template_body).Resources.Key.Properties.EnableKeyRotation && jsondecode(aws_cloudformation_stack.key.template_body).Resources.Key.DeletionPolicy == "Retain"
    error_message = "The key rotates, and outlives the stage: the final snapshot is of no use without it."
  }

  assert {
    condition = jsondecode(aws_s3_bucket_policy.console[0].policy).Statement == [{
      Effect    = "Allow"
      Principal = { Service = "cloudfront.amazonaws.com" }
      Action    = ["s3:GetObject", "s3:ListBucket"]
      Resource  = ["arn:aws:s3:::console", "arn:aws:s3:::console/*"]
      Condition = { StringEquals = { "AWS:SourceArn" = "arn:aws:cloudfront::123456789012:distribution/EDFDVBD6EXAMPLE" } }
    }]
    error_message = "The console's bucket is read by its CloudFront and by nobody else."
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.console[0].block_public_acls && aws_s3_bucket_public_access_block.console[0].block_public_policy && aws_s3_bucket_public_access_block.console[0].ignore_public_acls && aws_s3_bucket_public_access_block.console[0].restrict_public_buckets
    error_message = "The console's bucket is private."
  }

  assert {
    condition     = aws_s3_bucket.console[0].force_destroy
    error_message = "A destroy empties the console's bucket."
  }

  assert {
    condition     = one(aws_cloudfront_distribution.console[0].origin).origin_access_control_id == aws_cloudfront_origin_access_control.console[0].id && one(aws_cloudfront_distribution.console[0].default_cache_behavior).compress && one(aws_cloudfront_distribution.console[0].default_cache_behavior).response_headers_policy_id == aws_cloudfront_response_headers_policy.console[0].id
    error_message = "CloudFront signs what it asks of the bucket, compresses, and sends our headers."
  }

  assert {
    condition     = [for each in aws_cloudfront_distribution.console[0].custom_error_response : "${each.error_code} ${each.response_code} ${each.response_page_path}"] == ["404 404 /404.html"]
    error_message = "A path that isn't there is a 404, and a 403 stays one, which says that CloudFront may not read the bucket."
  }

  assert {
    condition     = strcontains(one(one(aws_cloudfront_response_headers_policy.console[0].security_headers_config).content_security_policy).content_security_policy, "connect-src 'self';")
    error_message = "Without the API's origin the pages may call none."
  }

  assert {
    condition     = length(aws_backup_plan.this) == 0 && length(aws_cloudformation_stack.vault) == 0
    error_message = "A vault costs something, and is made where it is asked for."
  }

  assert {
    condition     = !aws_db_instance.this[0].apply_immediately
    error_message = "What restarts Postgres waits for the maintenance window."
  }

  assert {
    condition     = aws_db_proxy.this["password"].require_tls && one(aws_db_proxy.this["password"].auth).iam_auth == "DISABLED" && one(aws_db_proxy.this["password"].auth).secret_arn == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:app"
    error_message = "The proxy wants TLS and knows the app role's secret, by password."
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_vpc_endpoint.interface) == 0 && aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway"
    error_message = "One NAT gateway, S3's free endpoint and no other."
  }

  assert {
    condition     = toset([for subnet in aws_subnet.private : subnet.availability_zone]) == toset(["eu-central-1a", "eu-central-1b"])
    error_message = "The private subnets are in two zones."
  }

  assert {
    condition     = [for subnet in concat(aws_subnet.private, aws_subnet.public, aws_subnet.database) : subnet.cidr_block] == ["10.42.0.0/18", "10.42.64.0/18", "10.42.128.0/22", "10.42.192.0/20", "10.42.208.0/20"]
    error_message = "The subnets don't overlap."
  }

  # Terraform's state has whatever these attributes hold.
  assert {
    condition     = alltrue([for secret in values(jsondecode(aws_cloudformation_stack.secrets.template_body).Resources) : !contains(keys(secret.Properties), "SecretString") && secret.Properties.GenerateSecretString.PasswordLength >= 40])
    error_message = "No secret's value is written by Terraform."
  }

  assert {
    condition = output.parameters == {
      vpc_id                    = aws_vpc.this.id
      private_subnet_ids        = "${aws_subnet.private[0].id},${aws_subnet.private[1].id}"
      private_subnet_id_1       = aws_subnet.private[0].id
      private_subnet_id_2       = aws_subnet.private[1].id
      lambda_security_group_id  = aws_security_group.lambda.id
      migrate_security_group_id = aws_security_group.migrate.id
      database_host             = "fusewire-test.proxy-abc.eu-central-1.rds.amazonaws.com"
      database_owner_host       = "fusewire-test.abc.eu-central-1.rds.amazonaws.com"
      database_port             = "5432"
      database_name             = "fusewire"
      database_user             = "fusewire_app"
      database_iam_auth         = "false"
      database_app_iam          = "false"
      ipv6_egress               = "off"
      database_kind             = "rds"
      database_connect_seconds  = "3"
      database_connections      = "proxy-password"
      database_connect_arn      = "arn:aws:rds-db:eu-central-1:123456789012:dbuser:prx-0123456789abcdef0/fusewire_app"
      database_instance_id      = "fusewire-test"
      database_proxy_name       = "fusewire-test"
      database_owner_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:owner"
      database_app_secret_arn   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:app"
      admin_api_key_secret_arn  = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin"
      provider_keys_secret_arn  = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:keys"
      kms_key_arn               = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
      console_bucket            = aws_s3_bucket.console[0].id
      console_distribution_id   = aws_cloudfront_distribution.console[0].id
      console_host              = "d111111abcdef8.cloudfront.net"
      console_origin            = "https://d111111abcdef8.cloudfront.net"
    }
    error_message = "The template is told where everything is."
  }

  assert {
    condition = { for name, parameter in aws_ssm_parameter.this : parameter.name => parameter.insecure_value == null || parameter.type == "String" } == {
      for name, value in output.parameters : "/fusewire/test/${name}" => true if name != "private_subnet_ids"
    }
    error_message = "Each is a parameter under the stage's path."
  }

  # Who may talk to whom.
  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.database) == ["migrate", "proxy"]
    error_message = "Postgres hears the proxy and migrate."
  }

  assert {
    condition     = alltrue([for rule in concat(values(aws_vpc_security_group_ingress_rule.database), aws_vpc_security_group_ingress_rule.proxy, values(aws_vpc_security_group_ingress_rule.endpoints)) : rule.cidr_ipv4 == null && rule.referenced_security_group_id != null && rule.from_port == rule.to_port])
    error_message = "What is let in comes from a security group and to one port."
  }

  assert {
    condition     = keys(aws_vpc_security_group_egress_rule.https) == ["lambda", "migrate"] && alltrue([for rule in values(aws_vpc_security_group_egress_rule.https) : rule.from_port == 443 && rule.to_port == 443])
    error_message = "The functions go out to port 443 alone."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.proxy[0].referenced_security_group_id == aws_security_group.lambda.id && aws_vpc_security_group_ingress_rule.proxy[0].from_port == 5432
    error_message = "The proxy hears the functions."
  }
}

run "smallest" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    multi_az            = false
    proxy_enabled       = false
    nat_gateways        = 0
    interface_endpoints = ["secretsmanager", "bedrock-runtime"]
    instance_class      = "db.t4g.micro"
    database_iam_auth   = true
    console             = false
  }

  assert {
    condition     = length(concat(aws_s3_bucket.console, aws_s3_bucket_policy.console)) == 0 && length(aws_cloudfront_distribution.console) == 0 && output.parameters.console_bucket == "none" && output.parameters.console_origin == "none"
    error_message = "The console can be left out."
  }

  assert {
    condition     = length(aws_db_proxy.this) == 0 && keys(aws_vpc_security_group_ingress_rule.database) == ["lambda", "migrate"]
    error_message = "Without a proxy the functions go to the instance."
  }

  assert {
    condition     = output.parameters.database_host == aws_db_instance.this[0].address && output.parameters.database_connect_arn == "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABCDEFGHIJKL/fusewire_app_iam" && output.parameters.database_proxy_name == "none"
    error_message = "The template is told of the instance instead of the proxy."
  }

  assert {
    condition     = length(aws_internet_gateway.this) == 0 && length(aws_route.private) == 0 && length(aws_vpc_security_group_egress_rule.https) == 0
    error_message = "There is no way out."
  }

  assert {
    condition     = keys(aws_vpc_endpoint.interface) == ["bedrock-runtime", "secretsmanager"] && keys(aws_vpc_security_group_ingress_rule.endpoints) == ["lambda", "migrate"]
    error_message = "The endpoints hear the functions."
  }

  assert {
    condition     = aws_db_instance.this[0].iam_database_authentication_enabled && output.parameters.database_iam_auth == "true" && output.parameters.database_app_iam == "true" && output.parameters.database_user == "fusewire_app_iam"
    error_message = "A role of its own connects with a token, and Postgres itself takes it."
  }
}

run "widest" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    availability_zones         = ["eu-central-1a", "eu-central-1c"]
    vpc_cidr                   = "172.20.4.0/22"
    nat_gateways               = 2
    postgres_version           = "18"
    database_iam_auth          = true
    app_password_rotation_days = 30
    model_servers              = [{ cidr = "10.9.0.0/16", port = 8000 }]
    console_api                = "https://abc123.execute-api.eu-central-1.amazonaws.com"
    console_domain             = { name = "console.example.com", certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/c" }
  }

  assert {
    condition     = aws_cloudfront_distribution.console[0].aliases == toset(["console.example.com"]) && one(aws_cloudfront_distribution.console[0].viewer_certificate).minimum_protocol_version == "TLSv1.2_2021" && output.parameters.console_origin == "https://console.example.com" && output.parameters.console_host == "d111111abcdef8.cloudfront.net"
    error_message = "The console has a name of its own, by TLS 1.2 and later."
  }

  assert {
    condition     = [for subnet in concat(aws_subnet.private, aws_subnet.public, aws_subnet.database) : subnet.cidr_block] == ["172.20.4.0/24", "172.20.5.0/24", "172.20.6.0/28", "172.20.6.16/28", "172.20.7.0/26", "172.20.7.64/26"]
    error_message = "The smallest range has room for every subnet."
  }

  assert {
    condition     = aws_route.private[0].nat_gateway_id == aws_nat_gateway.this[0].id && aws_route.private[1].nat_gateway_id == aws_nat_gateway.this[1].id && length(aws_eip.nat) == 2
    error_message = "Each zone has a way out of its own."
  }

  assert {
    condition     = aws_db_parameter_group.this[0].family == "postgres18" && aws_db_instance.this[0].engine_version == "18"
    error_message = "Instance and parameter group are of one version."
  }

  assert {
    condition     = one(aws_db_proxy.this["iam"].auth).iam_auth == "REQUIRED" && aws_db_instance.this[0].iam_database_authentication_enabled && output.parameters.database_app_iam == "false"
    error_message = "The proxy wants a token, and Postgres the password from the proxy."
  }

  assert {
    condition     = jsondecode(aws_cloudformation_stack.rotation[0].template_body).Resources.Schedule.Properties.RotationRules.AutomaticallyAfterDays == 30 && keys(aws_vpc_security_group_ingress_rule.database) == ["migrate", "proxy", "rotation"]
    error_message = "The rotation function may reach Postgres."
  }

  assert {
    condition     = one(values(aws_vpc_security_group_egress_rule.model_servers)).from_port == 8000 && one(values(aws_vpc_security_group_egress_rule.model_servers)).security_group_id == aws_security_group.lambda.id
    error_message = "The functions may reach a private model server."
  }
}

# A change of the way to the database, as `make deploy` goes about it: two runs, and the functions move in between. Runs of
# one module share a state, so each is an update of what the one before has left.

run "straight" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    proxy_enabled = false
  }

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.database) == ["lambda", "migrate"] && output.parameters.database_connections == "direct-password"
    error_message = "The functions go to the instance."
  }
}

run "proxy_on_add" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    kept_connections = ["direct-password"]
  }

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.database) == ["lambda", "migrate", "proxy"] && keys(aws_vpc_security_group_egress_rule.to_database) == ["lambda", "migrate", "proxy"]
    error_message = "The functions that are called still reach the instance."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.database["lambda"].id == run.straight.identities.rules.lambda
    error_message = "The way that is in use isn't made anew."
  }

  assert {
    condition     = output.parameters.database_host == aws_db_proxy.this["password"].endpoint && output.parameters.database_connections == "proxy-password,direct-password"
    error_message = "The next versions are told of the proxy."
  }
}

run "proxy_on_remove" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.database) == ["migrate", "proxy"] && output.parameters.database_connections == "proxy-password"
    error_message = "Once they have moved, the functions don't reach the instance any more."
  }

  assert {
    condition     = aws_db_proxy.this["password"].id == run.proxy_on_add.identities.proxies.password
    error_message = "The proxy that they moved to stays."
  }
}

run "token_on_add" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database_iam_auth = true
    kept_connections  = ["proxy-password"]
  }

  assert {
    condition     = { for kind, proxy in aws_db_proxy.this : kind => one(proxy.auth).iam_auth } == { password = "DISABLED", iam = "REQUIRED" } && aws_db_proxy.this["password"].id == run.proxy_on_add.identities.proxies.password
    error_message = "A second proxy takes tokens, and the first one passwords as before."
  }

  assert {
    condition     = output.parameters.database_proxy_name == "fusewire-test-iam" && toset(split(",", output.parameters.database_connect_arn)) == toset(["arn:aws:rds-db:eu-central-1:123456789012:dbuser:prx-0123456789abcdef0/fusewire_app"])
    error_message = "The next versions are told of the second proxy, and may connect to both."
  }
}

run "token_on_remove" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database_iam_auth = true
  }

  assert {
    condition     = keys(aws_db_proxy.this) == ["iam"] && aws_db_proxy.this["iam"].id == run.token_on_add.identities.proxies.iam
    error_message = "Once they have moved, there is one proxy."
  }
}

run "proxy_off_add" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    proxy_enabled     = false
    database_iam_auth = true
    kept_connections  = ["proxy-iam"]
  }

  assert {
    condition     = keys(aws_db_proxy.this) == ["iam"] && keys(aws_vpc_security_group_ingress_rule.database) == ["lambda", "migrate", "proxy"] && length(aws_vpc_security_group_ingress_rule.proxy) == 1
    error_message = "Both ways are open."
  }

  assert {
    condition     = output.parameters.database_connect_arn == "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABCDEFGHIJKL/fusewire_app_iam,arn:aws:rds-db:eu-central-1:123456789012:dbuser:prx-0123456789abcdef0/fusewire_app"
    error_message = "Versions on either way may connect."
  }
}

run "proxy_off_remove" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    proxy_enabled     = false
    database_iam_auth = true
  }

  assert {
    condition     = length(aws_db_proxy.this) == 0 && length(aws_security_group.proxy) == 0 && keys(aws_vpc_security_group_ingress_rule.database) == ["lambda", "migrate"]
    error_message = "Once they have moved, the proxy is gone."
  }
}

run "larger_now" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    proxy_enabled     = false
    database_iam_auth = true
    instance_class    = "db.m7g.large"
    apply_immediately = true
  }

  assert {
    condition     = aws_db_instance.this[0].apply_immediately && aws_db_instance.this[0].instance_class == "db.m7g.large" && aws_db_instance.this[0].id == run.straight.identities.database
    error_message = "An operator who asks for it has the larger class now; it is the same instance."
  }
}

# Postgres by choice: Aurora in place of RDS, in one zone or two, asleep or in two regions; and a database elsewhere.

run "aurora" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database                   = "aurora"
    aurora_max_capacity        = 16
    app_password_rotation_days = 30
    backup_vault_days          = 30
  }

  assert {
    condition     = length(aws_db_instance.this) == 0 && length(aws_rds_cluster_instance.this) == 2 && toset(aws_rds_cluster_instance.this[*].availability_zone) == toset(["eu-central-1a", "eu-central-1b"]) && alltrue([for instance in aws_rds_cluster_instance.this : instance.instance_class == "db.serverless" && !instance.publicly_accessible])
    error_message = "Two serverless instances in two zones, and no RDS instance."
  }

  assert {
    condition     = one(aws_rds_cluster.this[0].serverlessv2_scaling_configuration).min_capacity == 0.5 && one(aws_rds_cluster.this[0].serverlessv2_scaling_configuration).max_capacity == 16
    error_message = "It is always awake by default, and grows as far as it is told."
  }

  assert {
    condition     = aws_rds_cluster.this[0].storage_encrypted && aws_rds_cluster.this[0].kms_key_id == output.parameters.kms_key_arn && aws_rds_cluster.this[0].deletion_protection && !aws_rds_cluster.this[0].skip_final_snapshot && aws_rds_cluster.this[0].backup_retention_period == 30 && !aws_rds_cluster.this[0].delete_automated_backups
    error_message = "Encrypted, protected, and backed up as RDS is."
  }

  assert {
    condition     = aws_rds_cluster.this[0].manage_master_user_password && anytrue([for parameter in aws_rds_cluster_parameter_group.this[0].parameter : parameter.name == "rds.force_ssl" && parameter.value == "1"]) && !anytrue([for parameter in aws_rds_cluster_parameter_group.this[0].parameter : parameter.name == "idle_session_timeout"])
    error_message = "RDS makes the owner's password, and Postgres refuses connections without TLS."
  }

  assert {
    condition     = aws_db_proxy_target.this["password"].db_cluster_identifier == "fusewire-test" && aws_db_proxy_target.this["password"].db_instance_identifier == null
    error_message = "The proxy leads to the cluster."
  }

  assert {
    condition     = output.parameters.database_owner_host == "fusewire-test.cluster-abc.eu-central-1.rds.amazonaws.com" && output.parameters.database_owner_secret_arn == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:owner" && output.parameters.database_instance_id == "fusewire-test-1" && output.parameters.database_kind == "aurora"
    error_message = "The template is told of the cluster's writer."
  }

  assert {
    condition     = jsondecode(aws_cloudformation_stack.rotation[0].template_body).Resources.Attachment.Properties == { SecretId = output.parameters.database_app_secret_arn, TargetId = "fusewire-test", TargetType = "AWS::RDS::DBCluster" } && toset(aws_backup_selection.this[0].resources) == toset([aws_rds_cluster.this[0].arn])
    error_message = "Rotation and backups know the cluster."
  }
}

run "aurora_at_zero" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database            = "aurora"
    multi_az            = false
    proxy_enabled       = false
    database_iam_auth   = true
    aurora_min_capacity = 0
  }

  assert {
    condition     = one(aws_rds_cluster.this[0].serverlessv2_scaling_configuration).min_capacity == 0 && one(aws_rds_cluster.this[0].serverlessv2_scaling_configuration).seconds_until_auto_pause == 300 && length(aws_rds_cluster_instance.this) == 1
    error_message = "One instance, which pauses."
  }

  assert {
    condition     = anytrue([for parameter in aws_rds_cluster_parameter_group.this[0].parameter : parameter.name == "idle_session_timeout" && parameter.value == "60000"])
    error_message = "A connection that nobody uses doesn't keep it awake."
  }

  assert {
    condition     = tonumber(output.parameters.database_connect_seconds) > 15 && output.parameters.database_host == "fusewire-test.cluster-abc.eu-central-1.rds.amazonaws.com" && output.parameters.database_connect_arn == "arn:aws:rds-db:eu-central-1:123456789012:dbuser:cluster-ABCDEFGHIJKL/fusewire_app_iam"
    error_message = "The functions wait until it has resumed."
  }
}

run "aurora_in_two_regions" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database      = "aurora"
    second_region = "eu-west-1"
    aurora_global = true
  }

  assert {
    condition     = aws_rds_global_cluster.this[0].source_db_cluster_identifier == aws_rds_cluster.this[0].arn && aws_rds_cluster.second[0].global_cluster_identifier == aws_rds_global_cluster.this[0].id && aws_rds_cluster.second[0].deletion_protection
    error_message = "The second region's cluster follows the first."
  }

  assert {
    condition     = aws_rds_cluster.this[0].manage_master_user_password == null && aws_rds_cluster.this[0].master_password_wo == null && output.parameters.database_owner_secret_arn == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:own"
    error_message = "The owner's password is in Secrets Manager, and not in the state."
  }

  assert {
    condition     = aws_rds_cluster.second[0].kms_key_id == aws_cloudformation_stack.second_key[0].outputs["KeyArn"] && jsondecode(aws_cloudformation_stack.second_key[0].template_body).Resources.Key.DeletionPolicy == "Retain" && length(aws_cloudformation_stack.second_vault) == 0
    error_message = "The second region has a key of its own, which outlives the stage."
  }
}

run "elsewhere" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database          = "external"
    external_database = { cidr = "10.9.0.0/16" }
    nat_gateways      = 2
  }

  assert {
    condition     = length(aws_db_instance.this) + length(aws_rds_cluster.this) + length(aws_db_proxy.this) + length(aws_db_subnet_group.this) + length(aws_cloudwatch_log_group.postgres) == 0
    error_message = "No database is made, and no proxy."
  }

  assert {
    condition     = keys(aws_vpc_security_group_egress_rule.external_database) == ["lambda", "migrate"] && alltrue([for rule in values(aws_vpc_security_group_egress_rule.external_database) : rule.cidr_ipv4 == "10.9.0.0/16" && rule.from_port == 5432]) && length(aws_vpc_security_group_ingress_rule.database) == 0
    error_message = "The functions may reach the one that is elsewhere, and nothing else on its port."
  }

  assert {
    condition     = output.parameters.database_host == "none" && output.parameters.database_kind == "external" && output.parameters.database_connections == "direct-password" && output.parameters.database_user == "fusewire_app" && output.final_snapshot_identifier == null
    error_message = "DATABASE_URL says where it is."
  }

  assert {
    condition     = output.parameters.database_owner_secret_arn == aws_secretsmanager_secret.owner[0].arn && aws_secretsmanager_secret.owner[0].kms_key_id == output.parameters.kms_key_arn
    error_message = "The operator fills in who owns it."
  }
}

# Ways out without a NAT gateway.

run "nat_instance" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    nat_gateways = 0
    nat_instance = "t4g.nano"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 0 && length(aws_instance.nat) == 1 && !aws_instance.nat[0].source_dest_check && one(aws_instance.nat[0].metadata_options).http_tokens == "required" && one(aws_instance.nat[0].root_block_device).encrypted
    error_message = "One machine forwards what isn't for it."
  }

  assert {
    condition     = alltrue([for route in aws_route.nat_instance : route.destination_cidr_block == "0.0.0.0/0" && route.network_interface_id == aws_instance.nat[0].primary_network_interface_id]) && length(aws_route.nat_instance) == 2 && length(aws_route.private) == 0
    error_message = "Both zones leave through it."
  }

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.nat) == ["lambda", "migrate"] && alltrue([for rule in values(aws_vpc_security_group_ingress_rule.nat) : rule.from_port == 443 && rule.to_port == 443 && rule.cidr_ipv4 == null]) && keys(aws_vpc_security_group_egress_rule.https) == ["lambda", "migrate"]
    error_message = "It hears the functions, on 443 alone."
  }

  assert {
    condition     = length(output.nat_addresses) == 1 && length(aws_subnet.public) == 1
    error_message = "It has an address that stays."
  }
}

run "ipv6" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    nat_gateways = 0
    ipv6_egress  = true
  }

  assert {
    condition     = [for subnet in aws_subnet.private : subnet.ipv6_cidr_block] == ["2600:1f14:abc:de00::/64", "2600:1f14:abc:de01::/64"] && aws_vpc.this.assign_generated_ipv6_cidr_block
    error_message = "The functions' subnets have IPv6 beside IPv4."
  }

  assert {
    condition     = length(aws_route.ipv6) == 2 && alltrue([for route in aws_route.ipv6 : route.destination_ipv6_cidr_block == "::/0" && route.egress_only_gateway_id == aws_egress_only_internet_gateway.this[0].id]) && length(aws_internet_gateway.this) == 0 && length(aws_subnet.public) == 0
    error_message = "They go out by IPv6 alone, and nothing comes in."
  }

  assert {
    condition     = keys(aws_vpc_security_group_egress_rule.https_ipv6) == ["lambda", "migrate"] && length(aws_vpc_security_group_egress_rule.https) == 0 && output.parameters.ipv6_egress == "alone"
    error_message = "The template is told of it."
  }
}

# Copies of the backups: none by default, in a vault, locked, and in a second region.

run "vault" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    backup_vault_days = 365
    backup_lock       = "compliance"
    second_region     = "eu-west-1"
  }

  assert {
    condition     = alltrue([for stack in [aws_cloudformation_stack.vault[0], aws_cloudformation_stack.second_vault[0]] : jsondecode(stack.template_body).Resources.Vault.Properties.LockConfiguration == { MinRetentionDays = 365, ChangeableForDays = 3 }])
    error_message = "Both vaults are locked, for good from the third day on."
  }

  assert {
    condition     = alltrue(flatten([for stack in [aws_cloudformation_stack.vault[0], aws_cloudformation_stack.second_vault[0]] : [for resource in values(jsondecode(stack.template_body).Resources) : resource.DeletionPolicy == "Retain"]]))
    error_message = "The vaults and the second region's key outlive the stage."
  }

  assert {
    condition     = one(one(aws_backup_plan.this[0].rule).copy_action).destination_vault_arn == aws_cloudformation_stack.second_vault[0].outputs["VaultArn"] && one(one(aws_backup_plan.this[0].rule).lifecycle).delete_after == 365
    error_message = "Each day's copy goes to the second region too."
  }

  assert {
    condition     = toset(aws_backup_selection.this[0].resources) == toset([aws_db_instance.this[0].arn])
    error_message = "It is the ledger that is copied."
  }
}

run "vault_in_one_region" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    backup_vault_days = 35
  }

  assert {
    condition     = !can(jsondecode(aws_cloudformation_stack.vault[0].template_body).Resources.Vault.Properties.LockConfiguration) && length(aws_cloudformation_stack.second_vault) == 0 && length(one(aws_backup_plan.this[0].rule).copy_action) == 0
    error_message = "Neither locked nor copied unless asked for."
  }
}

# The workflows' roles: none by default, and each for one subject of GitHub's tokens.

run "pipeline" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    github_repository = "our-organisation@123/fusewire@456"
  }

  assert {
    condition = { for name, role in aws_iam_role.workflow : name => one(jsondecode(role.assume_role_policy).Statement).Condition.StringEquals } == {
      plan = {
        "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = "repo:our-organisation@123/fusewire@456:pull_request"
      }
      deploy = {
        "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = "repo:our-organisation@123/fusewire@456:environment:test"
      }
    }
    error_message = "A role is for one subject and one audience, without a wildcard."
  }

  assert {
    condition     = { for name, attached in aws_iam_role_policy_attachment.workflow : name => attached.policy_arn } == { plan = "arn:aws:iam::aws:policy/ReadOnlyAccess", deploy = "arn:aws:iam::aws:policy/PowerUserAccess" }
    error_message = "The role that plans reads."
  }

  assert {
    condition     = anytrue([for statement in jsondecode(aws_iam_role_policy.workflow[0].policy).Statement : statement.Effect == "Deny" && statement.Resource == "arn:aws:iam::123456789012:role/fusewire-test-github-*"])
    error_message = "The role that deploys doesn't change the workflows' roles."
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 1 && output.workflow_roles.plan != null
    error_message = "The account's provider is made where there is none."
  }
}

run "pipeline_of_another_stage" {
  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    github_repository   = "our-organisation/fusewire"
    github_provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0 && one(jsondecode(aws_iam_role.workflow["deploy"].assume_role_policy).Statement).Principal.Federated == "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
    error_message = "An account has one provider."
  }
}

# What is refused before anything is made, each by the variable that says why.

run "wrong" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    stage                       = "Prod_1"
    region                      = "frankfurt"
    vpc_cidr                    = "10.42.0.0/24"
    model_servers               = [{ cidr = "10.0.0.0/8", port = 0 }]
    nat_instance                = "t3.nano"
    postgres_version            = "16"
    instance_class              = "t4g.micro"
    allocated_storage_gb        = 10
    backup_retention_days       = 0
    database_log_retention_days = 31
    app_password_rotation_days  = 0.5
    kept_connections            = ["psql"]
    backup_vault_days           = 0.5
    github_repository           = "fusewire"
    github_provider_arn         = "arn:aws:iam::123456789012:role/github"
    console_api                 = "https://ai.example.com/api/v1"
    console_domain              = { name = "console.example.com", certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/c" }
  }

  expect_failures = [
    var.stage, var.region, var.vpc_cidr, var.nat_instance, var.model_servers, var.postgres_version,
    var.instance_class, var.allocated_storage_gb, var.backup_retention_days, var.database_log_retention_days,
    var.app_password_rotation_days, var.kept_connections, var.backup_vault_days,
    var.github_repository, var.github_provider_arn, var.console_api, var.console_domain,
  ]
}

run "wrong_copies" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    backup_vault_days = 30
    backup_lock       = "on"
    second_region     = "eu-central-1"
  }

  expect_failures = [var.backup_lock, var.second_region]
}

run "not_together" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    availability_zones       = ["eu-central-1a", "us-east-1a"]
    allocated_storage_gb     = 100
    max_allocated_storage_gb = 105
    interface_endpoints      = ["dynamodb"]
    backup_lock              = "governance"
    second_region            = "eu-west-1"
  }

  expect_failures = [var.availability_zones, var.max_allocated_storage_gb, var.interface_endpoints, var.backup_lock, var.second_region]
}

run "not_with_aurora" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database            = "aurora"
    postgres_version    = "18"
    aurora_min_capacity = 0
    aurora_max_capacity = 0.7
    aurora_global       = true
  }

  expect_failures = [var.postgres_version, var.aurora_max_capacity, var.second_region]
}

run "asleep_behind_a_proxy" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database            = "aurora"
    aurora_min_capacity = 0
  }

  expect_failures = [var.aurora_min_capacity]
}

run "not_elsewhere" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database                   = "external"
    backup_vault_days          = 30
    app_password_rotation_days = 30
  }

  expect_failures = [var.external_database, var.backup_vault_days, var.app_password_rotation_days]
}

run "a_ledger_that_would_be_deleted" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    database     = "aurora"
    database_now = "rds"
  }

  expect_failures = [var.database]
}

run "a_password_that_nobody_is_asked_for" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    proxy_enabled              = false
    database_iam_auth          = true
    app_password_rotation_days = 30
  }

  expect_failures = [var.app_password_rotation_days]
}

run "no_way_to_the_secrets" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    nat_gateways        = 0
    interface_endpoints = ["bedrock-runtime"]
  }

  expect_failures = [var.nat_gateways]
}

run "two_ways_out" {
  command = plan

  module {
    source = "./modules/aws"
  }

  providers = {
    aws        = aws
    aws.second = aws.second
  }

  variables {
    nat_instance = "t4g.nano"
  }

  expect_failures = [var.nat_gateways]
}
