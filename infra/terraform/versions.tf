terraform {
  required_version = ">= 1.11" # write-only attributes

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # Bucket, key and region come from -backend-config: see README.md. S3 itself holds the lock.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      application = "fusewire"
      stage       = var.stage
    }
  }
}

# Nothing is made with it without a second region.
provider "aws" {
  alias  = "second"
  region = coalesce(var.second_region, var.region)

  default_tags {
    tags = {
      application = "fusewire"
      stage       = var.stage
    }
  }
}
