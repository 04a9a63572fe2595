variable "name" {
  description = "The server's name, unique in all of Azure."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "name is 3 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends."
  }
}

variable "resource_group_name" {
  description = "The resource group that the server goes into."
  type        = string
}

variable "location" {
  description = "Azure region, such as westeurope."
  type        = string
}

variable "delegated_subnet_id" {
  description = "A subnet delegated to Microsoft.DBforPostgreSQL/flexibleServers, with nothing else in it."
  type        = string

  validation {
    condition     = can(regex("/subnets/[^/]+$", var.delegated_subnet_id))
    error_message = "delegated_subnet_id is the resource id of a subnet."
  }
}

variable "private_dns_zone_id" {
  description = "A private DNS zone whose name ends with .postgres.database.azure.com, linked to the subnet's network."
  type        = string

  validation {
    condition     = can(regex("/privateDnsZones/.*\\.postgres\\.database\\.azure\\.com$", var.private_dns_zone_id))
    error_message = "private_dns_zone_id is the resource id of a zone whose name ends with .postgres.database.azure.com."
  }
}

variable "owner_password" {
  description = "The owner's password, from wherever it is kept. It goes to Azure and not into the state."
  type        = string
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = length(var.owner_password) >= 20
    error_message = "owner_password has 20 characters or more."
  }
}

variable "owner_password_version" {
  description = "Raise it to have a new owner_password sent."
  type        = number
  default     = 1
}

variable "postgres_version" {
  description = "Major version."
  type        = string
  default     = "17"

  validation {
    condition     = contains(["17", "18"], var.postgres_version)
    error_message = "postgres_version is 17 or 18: the ledger is tested on no other."
  }
}

variable "sku_name" {
  description = "The machine. Burstable ones (B_...) can't have a standby."
  type        = string
  default     = "GP_Standard_D2ds_v5"

  validation {
    condition     = can(regex("^(B|GP|MO)_Standard_", var.sku_name))
    error_message = "sku_name is a tier and a size, such as GP_Standard_D2ds_v5."
  }
}

variable "zone_redundant" {
  description = "Whether a standby in another zone takes over by itself."
  type        = bool
  default     = true

  validation {
    condition     = !var.zone_redundant || !startswith(var.sku_name, "B_")
    error_message = "zone_redundant needs a sku_name that isn't burstable."
  }
}

variable "storage_mb" {
  description = "Storage to begin with; it grows by itself."
  type        = number
  default     = 32768

  validation {
    condition     = contains([32768, 65536, 131072, 262144, 524288, 1048576, 2097152, 4193280], var.storage_mb)
    error_message = "storage_mb is 32768, 65536, 131072, 262144, 524288, 1048576, 2097152 or 4193280."
  }
}

variable "backup_retention_days" {
  description = "For how many days there are backups, and every second in between can be restored."
  type        = number
  default     = 30

  validation {
    condition     = var.backup_retention_days >= 7 && var.backup_retention_days <= 35
    error_message = "backup_retention_days is 7 to 35."
  }
}

variable "geo_redundant_backup" {
  description = "Whether backups are kept in the paired region too. Fixed once the server is made."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "Whether a lock keeps the server from being deleted. Set to false in an apply of its own before a destroy."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of the server."
  type        = map(string)
  default     = {}
}
