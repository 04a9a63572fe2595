variable "name" {
  description = "The instance's name. A deleted instance's name can't be used again for a week."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,78}[a-z0-9]$", var.name))
    error_message = "name is 2 to 80 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen."
  }
}

variable "project" {
  description = "The Google Cloud project."
  type        = string
}

variable "region" {
  description = "Google Cloud region, such as europe-west3."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is the name of a Google Cloud region, such as europe-west3."
  }
}

variable "network" {
  description = "The VPC network, as projects/PROJECT/global/networks/NAME, with private services access already set up."
  type        = string

  validation {
    condition     = can(regex("projects/[^/]+/global/networks/[^/]+$", var.network))
    error_message = "network is projects/PROJECT/global/networks/NAME."
  }
}

variable "owner_password" {
  description = "The owner's password, from wherever it is kept. It goes to Google and not into the state."
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

variable "tier" {
  description = "The machine, of the edition ENTERPRISE."
  type        = string
  default     = "db-custom-2-7680"

  validation {
    condition     = can(regex("^db-(f1-micro|g1-small|custom-[0-9]+-[0-9]+)$", var.tier))
    error_message = "tier is db-f1-micro, db-g1-small or db-custom-CPUS-MEGABYTES."
  }
}

variable "regional" {
  description = "Whether a standby in another zone takes over by itself."
  type        = bool
  default     = true
}

variable "disk_size_gb" {
  description = "Storage to begin with."
  type        = number
  default     = 20

  validation {
    condition     = var.disk_size_gb >= 10
    error_message = "disk_size_gb is 10 or more."
  }
}

variable "disk_autoresize_limit_gb" {
  description = "Storage grows by itself up to here; it never shrinks."
  type        = number
  default     = 200

  validation {
    condition     = var.disk_autoresize_limit_gb > var.disk_size_gb
    error_message = "disk_autoresize_limit_gb is more than disk_size_gb."
  }
}

variable "retained_backups" {
  description = "How many daily backups are kept."
  type        = number
  default     = 30

  validation {
    condition     = var.retained_backups >= 7 && var.retained_backups <= 365
    error_message = "retained_backups is 7 to 365."
  }
}

variable "point_in_time_days" {
  description = "For how many days back every second can be restored."
  type        = number
  default     = 7

  validation {
    condition     = var.point_in_time_days >= 1 && var.point_in_time_days <= 7
    error_message = "point_in_time_days is 1 to 7, which is what the edition ENTERPRISE keeps."
  }
}

variable "ssl_mode" {
  description = "Whether TLS alone is wanted, or a client certificate too."
  type        = string
  default     = "ENCRYPTED_ONLY"

  validation {
    condition     = contains(["ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"], var.ssl_mode)
    error_message = "ssl_mode is ENCRYPTED_ONLY or TRUSTED_CLIENT_CERTIFICATE_REQUIRED: nothing goes unencrypted."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform and Google refuse to delete the instance. Set to false in an apply of its own before a destroy."
  type        = bool
  default     = true
}

variable "labels" {
  description = "Labels of the instance."
  type        = map(string)
  default     = {}
}
