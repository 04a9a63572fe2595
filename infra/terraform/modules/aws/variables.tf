variable "stage" {
  description = "Name of this deployment; part of every resource's name and of the SSM parameters' path."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,14}[a-z0-9]$", var.stage))
    error_message = "stage is 2 to 16 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen."
  }
}

variable "region" {
  description = "AWS region, such as us-east-1: the one that the provider is configured with."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is the name of an AWS region, such as us-east-1."
  }
}

variable "availability_zones" {
  description = "Two zones of the region. Null takes the first two that the account may use."
  type        = list(string)
  default     = null

  validation {
    condition = var.availability_zones == null ? true : (
      length(distinct(var.availability_zones)) == 2 && length(var.availability_zones) == 2
      && alltrue([for zone in var.availability_zones : startswith(zone, var.region)])
    )
    error_message = "availability_zones are two different zones of the region, such as [\"us-east-1a\", \"us-east-1b\"]."
  }
}

# --- Network ---------------------------------------------------------------------------------------------------------

variable "vpc_cidr" {
  description = "The VPC's addresses, /16 to /22. Half of them are the functions'."
  type        = string
  default     = "10.42.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]), 0) >= 16 && try(tonumber(split("/", var.vpc_cidr)[1]), 99) <= 22
    error_message = "vpc_cidr is an IPv4 range between /16 and /22, such as 10.42.0.0/16."
  }
}

variable "nat_gateways" {
  description = "The way out to the vendors: 2 survives the loss of a zone, 1 doesn't, 0 leaves only what interface_endpoints reach (Bedrock)."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = contains([0, 1, 2], var.nat_gateways)
    error_message = "nat_gateways is 0, 1 or 2."
  }

  validation {
    condition     = var.nat_gateways > 0 || var.nat_instance != null || var.ipv6_egress || contains(var.interface_endpoints, "secretsmanager")
    error_message = "nat_gateways = 0 needs nat_instance, ipv6_egress, or \"secretsmanager\" among interface_endpoints: the functions read their secrets through it."
  }

  validation {
    condition     = var.nat_gateways == 0 || var.nat_instance == null
    error_message = "nat_instance is in place of a gateway: it needs nat_gateways = 0."
  }
}

variable "nat_instance" {
  description = "The class of a machine that takes a NAT gateway's place at a tenth of its price, such as t4g.nano; null for none. One machine in one zone, which is yours to patch."
  type        = string
  default     = null

  validation {
    condition     = var.nat_instance == null ? true : can(regex("^[a-z]+[0-9]+g[a-z]*\\.[a-z0-9]+$", var.nat_instance))
    error_message = "nat_instance is a class with an Arm processor, such as t4g.nano."
  }
}

variable "ipv6_egress" {
  description = "Whether the functions go out by IPv6, which is free and reaches only those who have it. Without a NAT gateway, that is all they reach."
  type        = bool
  default     = false
  nullable    = false
}

variable "interface_endpoints" {
  description = "AWS services reached inside the VPC. Each costs two network interfaces by the hour; with a NAT gateway none is needed."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.interface_endpoints, ["bedrock-runtime", "logs", "secretsmanager", "ssm", "xray"])) == 0
    error_message = "interface_endpoints are among bedrock-runtime, logs, secretsmanager, ssm and xray."
  }
}

variable "model_servers" {
  description = "Ollama or vLLM on private addresses: the ranges and ports that the functions may open beside 443."
  type        = list(object({ cidr = string, port = number }))
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for server in var.model_servers : can(cidrnetmask(server.cidr)) && server.port >= 1 && server.port <= 65535])
    error_message = "Each of model_servers has an IPv4 range as cidr and a port from 1 to 65535."
  }
}

# --- Database --------------------------------------------------------------------------------------------------------

variable "database" {
  description = "Which Postgres: rds; aurora (Serverless v2); external, for one that is kept elsewhere and named by DATABASE_URL in infra/<stage>.env. Terraform doesn't move the ledger from one to another."
  type        = string
  default     = "rds"
  nullable    = false

  validation {
    condition     = contains(["rds", "aurora", "external"], var.database)
    error_message = "database is rds, aurora or external."
  }

  validation {
    condition     = var.database_now == null || var.database_now == var.database
    error_message = "Terraform doesn't move the ledger to another kind of database, it would delete the one that is there: make another stage, and restore a backup in it."
  }
}

variable "database_now" {
  description = "Which Postgres the stage has: `make deploy` sets it, so that a change of `database` is refused."
  type        = string
  default     = null
}

variable "aurora_min_capacity" {
  description = "The capacity units that Aurora keeps ready, each with about 2 GB. 0: it pauses after 5 minutes without a connection, and the next call waits some 15 seconds."
  type        = number
  default     = 0.5
  nullable    = false

  validation {
    condition     = var.aurora_min_capacity >= 0 && var.aurora_min_capacity <= var.aurora_max_capacity && floor(var.aurora_min_capacity * 2) == var.aurora_min_capacity * 2
    error_message = "aurora_min_capacity is a multiple of 0.5, from 0 to aurora_max_capacity."
  }

  validation {
    condition     = var.aurora_min_capacity > 0 || !(var.proxy_enabled || var.aurora_global)
    error_message = "RDS Proxy and a global database keep Aurora awake: aurora_min_capacity = 0 needs proxy_enabled = false and no aurora_global."
  }
}

variable "aurora_max_capacity" {
  description = "The capacity units that Aurora grows to under load."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.aurora_max_capacity >= 1 && var.aurora_max_capacity <= 256 && floor(var.aurora_max_capacity * 2) == var.aurora_max_capacity * 2
    error_message = "aurora_max_capacity is a multiple of 0.5, from 1 to 256."
  }
}

variable "aurora_global" {
  description = "Whether second_region has a copy of the cluster, seconds behind, without instances."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.aurora_global || var.database == "aurora"
    error_message = "aurora_global needs database = \"aurora\"."
  }
}

variable "aurora_owner_password" {
  description = "The owner's password in a global database, from the secret that the output global_owner_secret_arn names. It isn't kept."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = var.aurora_owner_password == null ? true : length(var.aurora_owner_password) >= 20
    error_message = "aurora_owner_password has 20 characters or more."
  }
}

variable "external_database" {
  description = "Where a database elsewhere is: the addresses and the port that the functions may open."
  type        = object({ cidr = string, port = optional(number, 5432) })
  default     = null

  validation {
    condition     = (var.external_database != null) == (var.database == "external")
    error_message = "external_database goes with database = \"external\"."
  }

  validation {
    condition     = var.external_database == null ? true : can(cidrnetmask(var.external_database.cidr)) && var.external_database.port >= 1 && var.external_database.port <= 65535
    error_message = "external_database has an IPv4 range as cidr and a port from 1 to 65535."
  }
}

variable "postgres_version" {
  description = "Major version; RDS keeps the minor one up to date in the maintenance window."
  type        = string
  default     = "17"
  nullable    = false

  validation {
    condition     = contains(["17", "18"], var.postgres_version)
    error_message = "postgres_version is 17 or 18: the ledger is tested on no other."
  }

  validation {
    condition     = var.postgres_version == "17" || var.database != "aurora"
    error_message = "postgres_version is 17 for Aurora: that it has 18 was not seen documented."
  }
}

variable "instance_class" {
  description = "The database's machine. The ledger is one hot row: a faster core helps, more cores hardly."
  type        = string
  default     = "db.t4g.small"
  nullable    = false

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.instance_class))
    error_message = "instance_class is an RDS class, such as db.t4g.small."
  }
}

variable "multi_az" {
  description = "Whether a standby in the other zone takes over by itself; for Aurora, whether there is a second instance."
  type        = bool
  default     = true
  nullable    = false
}

variable "allocated_storage_gb" {
  description = "Storage to begin with, gp3."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.allocated_storage_gb >= 20 && var.allocated_storage_gb <= 65536
    error_message = "allocated_storage_gb is 20 to 65536."
  }
}

variable "max_allocated_storage_gb" {
  description = "RDS grows the storage by itself up to here; it never shrinks."
  type        = number
  default     = 200
  nullable    = false

  validation {
    condition     = var.max_allocated_storage_gb >= var.allocated_storage_gb * 1.1 && var.max_allocated_storage_gb <= 65536
    error_message = "max_allocated_storage_gb is at least a tenth more than allocated_storage_gb, and at most 65536."
  }
}

variable "backup_retention_days" {
  description = "For how many days there are snapshots, and every second in between can be restored."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 35
    error_message = "backup_retention_days is 1 to 35: 0 would switch point-in-time recovery off."
  }
}

variable "backup_vault_days" {
  description = "For how many days AWS Backup keeps a copy of each day in a vault, beside RDS's own backups; 0 makes no vault. Vault and key outlive the stage."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.backup_vault_days == 0 || var.database != "external"
    error_message = "A database elsewhere has its backups there: backup_vault_days is for rds and aurora."
  }

  validation {
    condition     = var.backup_vault_days >= 0 && var.backup_vault_days <= 36500 && floor(var.backup_vault_days) == var.backup_vault_days
    error_message = "backup_vault_days is a whole number of days, or 0."
  }
}

variable "backup_lock" {
  description = "Whether a copy can be deleted before its time: off; governance, by whoever may take the lock off; compliance, by nobody, for good, from the third day on."
  type        = string
  default     = "off"
  nullable    = false

  validation {
    condition     = contains(["off", "governance", "compliance"], var.backup_lock)
    error_message = "backup_lock is off, governance or compliance."
  }

  validation {
    condition     = var.backup_lock == "off" || var.backup_vault_days > 0
    error_message = "backup_lock locks the vault: it needs backup_vault_days."
  }
}

variable "second_region" {
  description = "A second region, such as eu-west-1, for a copy of what is in the vault, and for aurora_global. Null for none."
  type        = string
  default     = null

  validation {
    condition     = var.second_region == null ? true : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.second_region)) && var.second_region != var.region
    error_message = "second_region is the name of another AWS region, such as eu-west-1."
  }

  validation {
    condition     = var.second_region == null || var.backup_vault_days > 0 || var.aurora_global
    error_message = "second_region needs something to keep there: backup_vault_days or aurora_global."
  }

  validation {
    condition     = var.second_region != null || !var.aurora_global
    error_message = "aurora_global needs a second_region."
  }
}

variable "second_availability_zones" {
  description = "Two zones of the second region, for aurora_global. Null takes the first two that the account may use."
  type        = list(string)
  default     = null

  validation {
    condition     = var.second_availability_zones == null ? true : length(distinct(var.second_availability_zones)) == 2 && length(var.second_availability_zones) == 2
    error_message = "second_availability_zones are two different zones, such as [\"eu-west-1a\", \"eu-west-1b\"]."
  }
}

variable "deletion_protection" {
  description = "Whether the database refuses to be deleted. Set to false in an apply of its own before a destroy."
  type        = bool
  default     = true
  nullable    = false
}

variable "database_log_retention_days" {
  description = "How long the logs of Postgres and of the proxy are kept in CloudWatch."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.database_log_retention_days)
    error_message = "database_log_retention_days is one that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "proxy_enabled" {
  description = "Whether the functions go through RDS Proxy. Without it, each execution environment holds a connection of its own to the instance."
  type        = bool
  default     = true
  nullable    = false
}

variable "database_iam_auth" {
  description = "Whether the app role connects with an IAM token instead of its password."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.database_iam_auth || var.database != "external"
    error_message = "A database elsewhere takes no tokens of AWS's: database_iam_auth is for rds and aurora."
  }
}

variable "kept_connections" {
  description = "How versions of the functions that are still called connect, while others are moved to what proxy_enabled and database_iam_auth say: `make deploy` sets it."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.kept_connections, ["direct-iam", "direct-password", "proxy-iam", "proxy-password"])) == 0
    error_message = "kept_connections are among direct-iam, direct-password, proxy-iam and proxy-password."
  }
}

variable "apply_immediately" {
  description = "Whether a change that restarts Postgres, such as a larger class, is made now instead of in the maintenance window: `make deploy NOW=1` sets it."
  type        = bool
  default     = false
  nullable    = false
}

variable "app_password_rotation_days" {
  description = "Every how many days AWS's rotation function changes the app role's password; 0 for never. Only after `migrate` has run once."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.app_password_rotation_days >= 0 && var.app_password_rotation_days <= 365 && floor(var.app_password_rotation_days) == var.app_password_rotation_days
    error_message = "app_password_rotation_days is a whole number from 0 to 365."
  }

  validation {
    condition     = var.app_password_rotation_days == 0 || var.database != "external"
    error_message = "AWS's rotation function changes passwords of rds and aurora alone."
  }

  validation {
    condition     = var.app_password_rotation_days == 0 || var.proxy_enabled || !var.database_iam_auth
    error_message = "Where the app role comes to the instance itself with IAM tokens, Postgres takes no password from it: there is nothing to rotate."
  }
}

# --- Console ---------------------------------------------------------------------------------------------------------

variable "console" {
  description = "Whether there is a bucket with CloudFront for the console. `make deploy` puts the files there."
  type        = bool
  default     = true
  nullable    = false
}

variable "console_domain" {
  description = "The console's own name, such as console.example.com, and its certificate in Certificate Manager, which has to be in us-east-1. Lead a CNAME to CloudFront's name yourself. Null for CloudFront's name alone."
  type        = object({ name = string, certificate_arn = string })
  default     = null

  validation {
    condition     = var.console_domain == null ? true : can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.console_domain.name)) && can(regex("^arn:[a-z-]+:acm:us-east-1:[0-9]{12}:certificate/.+$", var.console_domain.certificate_arn))
    error_message = "console_domain is a name in small letters, and the ARN of a certificate in us-east-1, where CloudFront looks for it."
  }
}

variable "console_api" {
  description = "The API's origin, which the console's pages may call: `make deploy` sets it. Null allows none."
  type        = string
  default     = null

  validation {
    condition     = var.console_api == null ? true : can(regex("^https://[a-z0-9.-]+$", var.console_api))
    error_message = "console_api is an origin without a path, such as https://ai.example.com."
  }
}

# --- Pipeline --------------------------------------------------------------------------------------------------------

variable "github_repository" {
  description = "The repository as GitHub's tokens name it: owner/name, or owner@id/name@id where their subjects are immutable (new repositories since July 2026). Null makes no roles for its workflows."
  type        = string
  default     = null

  validation {
    condition     = var.github_repository == null ? true : can(regex("^[A-Za-z0-9-]+(@[0-9]+)?/[A-Za-z0-9._-]+(@[0-9]+)?$", var.github_repository))
    error_message = "github_repository is owner/name or owner@id/name@id, such as our-organisation/fusewire."
  }
}

variable "github_provider_arn" {
  description = "The account's identity provider for GitHub's tokens, if it has one: there can be one only. Null makes it."
  type        = string
  default     = null

  validation {
    condition     = var.github_provider_arn == null ? true : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/token\\.actions\\.githubusercontent\\.com$", var.github_provider_arn))
    error_message = "github_provider_arn is an ARN that ends with :oidc-provider/token.actions.githubusercontent.com."
  }
}
