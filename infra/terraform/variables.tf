# What each one means, its default and what it may be stand in modules/aws/variables.tf, once. Null is the default there.

variable "stage" {
  description = "Name of this deployment; part of every resource's name and of the SSM parameters' path."
  type        = string
}

variable "region" {
  description = "AWS region, such as us-east-1: the one that the provider is configured with."
  type        = string
}

variable "availability_zones" {
  description = "Two zones of the region. Null takes the first two that the account may use."
  type        = list(string)
  default     = null
}

variable "vpc_cidr" {
  description = "The VPC's addresses, /16 to /22. Half of them are the functions'."
  type        = string
  default     = null
}

variable "nat_gateways" {
  description = "The way out to the vendors: 2 survives the loss of a zone, 1 doesn't, 0 leaves only what interface_endpoints reach (Bedrock)."
  type        = number
  default     = null
}

variable "nat_instance" {
  description = "The class of a machine that takes a NAT gateway's place at a tenth of its price, such as t4g.nano; null for none. One machine in one zone, which is yours to patch."
  type        = string
  default     = null
}

variable "ipv6_egress" {
  description = "Whether the functions go out by IPv6, which is free and reaches only those who have it. Without a NAT gateway, that is all they reach."
  type        = bool
  default     = null
}

variable "interface_endpoints" {
  description = "AWS services reached inside the VPC. Each costs two network interfaces by the hour; with a NAT gateway none is needed."
  type        = set(string)
  default     = null
}

variable "model_servers" {
  description = "Ollama or vLLM on private addresses: the ranges and ports that the functions may open beside 443."
  type        = list(object({ cidr = string, port = number }))
  default     = null
}

variable "database" {
  description = "Which Postgres: rds; aurora (Serverless v2); external, for one that is kept elsewhere and named by DATABASE_URL in infra/<stage>.env. Terraform doesn't move the ledger from one to another."
  type        = string
  default     = null
}

variable "database_now" {
  description = "Which Postgres the stage has: `make deploy` sets it, so that a change of `database` is refused."
  type        = string
  default     = null
}

variable "aurora_min_capacity" {
  description = "The capacity units that Aurora keeps ready, each with about 2 GB. 0: it pauses after 5 minutes without a connection, and the next call waits some 15 seconds."
  type        = number
  default     = null
}

variable "aurora_max_capacity" {
  description = "The capacity units that Aurora grows to under load."
  type        = number
  default     = null
}

variable "aurora_global" {
  description = "Whether second_region has a copy of the cluster, seconds behind, without instances."
  type        = bool
  default     = null
}

variable "external_database" {
  description = "Where a database elsewhere is: the addresses and the port that the functions may open."
  type        = object({ cidr = string, port = optional(number, 5432) })
  default     = null
}

variable "postgres_version" {
  description = "Major version; RDS keeps the minor one up to date in the maintenance window."
  type        = string
  default     = null
}

variable "instance_class" {
  description = "The database's machine. The ledger is one hot row: a faster core helps, more cores hardly."
  type        = string
  default     = null
}

variable "multi_az" {
  description = "Whether a standby in the other zone takes over by itself; for Aurora, whether there is a second instance."
  type        = bool
  default     = null
}

variable "allocated_storage_gb" {
  description = "Storage to begin with, gp3."
  type        = number
  default     = null
}

variable "max_allocated_storage_gb" {
  description = "RDS grows the storage by itself up to here; it never shrinks."
  type        = number
  default     = null
}

variable "backup_retention_days" {
  description = "For how many days there are snapshots, and every second in between can be restored."
  type        = number
  default     = null
}

variable "backup_vault_days" {
  description = "For how many days AWS Backup keeps a copy of each day in a vault, beside RDS's own backups; 0 makes no vault. Vault and key outlive the stage."
  type        = number
  default     = null
}

variable "backup_lock" {
  description = "Whether a copy can be deleted before its time: off; governance, by whoever may take the lock off; compliance, by nobody, for good, from the third day on."
  type        = string
  default     = null
}

variable "second_region" {
  description = "A second region, such as eu-west-1, for a copy of what is in the vault, and for aurora_global. Null for none."
  type        = string
  default     = null
}

variable "second_availability_zones" {
  description = "Two zones of the second region, for aurora_global. Null takes the first two that the account may use."
  type        = list(string)
  default     = null
}

variable "deletion_protection" {
  description = "Whether the database refuses to be deleted. Set to false in an apply of its own before a destroy."
  type        = bool
  default     = null
}

variable "database_log_retention_days" {
  description = "How long the logs of Postgres and of the proxy are kept in CloudWatch."
  type        = number
  default     = null
}

variable "proxy_enabled" {
  description = "Whether the functions go through RDS Proxy. Without it, each execution environment holds a connection of its own to the instance."
  type        = bool
  default     = null
}

variable "database_iam_auth" {
  description = "Whether the app role connects with an IAM token instead of its password."
  type        = bool
  default     = null
}

variable "kept_connections" {
  description = "How versions of the functions that are still called connect, while others are moved to what proxy_enabled and database_iam_auth say: `make deploy` sets it."
  type        = set(string)
  default     = null
}

variable "apply_immediately" {
  description = "Whether a change that restarts Postgres, such as a larger class, is made now instead of in the maintenance window: `make deploy NOW=1` sets it."
  type        = bool
  default     = null
}

variable "app_password_rotation_days" {
  description = "Every how many days AWS's rotation function changes the app role's password; 0 for never. Only after `migrate` has run once."
  type        = number
  default     = null
}

variable "console" {
  description = "Whether there is a bucket with CloudFront for the console. `make deploy` puts the files there."
  type        = bool
  default     = null
}

variable "console_domain" {
  description = "The console's own name, such as console.example.com, and its certificate in Certificate Manager, which has to be in us-east-1. Lead a CNAME to CloudFront's name yourself. Null for CloudFront's name alone."
  type        = object({ name = string, certificate_arn = string })
  default     = null
}

variable "console_api" {
  description = "The API's origin, which the console's pages may call: `make deploy` sets it. Null allows none."
  type        = string
  default     = null
}

variable "github_repository" {
  description = "The repository as GitHub's tokens name it: owner/name, or owner@id/name@id where their subjects are immutable (new repositories since July 2026). Null makes no roles for its workflows."
  type        = string
  default     = null
}

variable "github_provider_arn" {
  description = "The account's identity provider for GitHub's tokens, if it has one: there can be one only. Null makes it."
  type        = string
  default     = null
}
