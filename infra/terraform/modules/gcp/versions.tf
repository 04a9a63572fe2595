terraform {
  # 1.11 for write-only attributes: the password reaches Google and stays out of the state.
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }
}
